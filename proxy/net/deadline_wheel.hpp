// Deadlines for a thread: one coarse timer for all of them. Arming and disarming are O(1) and make no system call; an expiry is up to
// one tick late, never early. Nothing ticks while nothing is armed. One wheel per I/O thread; not thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include "proxy/net/types.hpp"

namespace pgporter {

class DeadlineWheel;

// A member of whoever has a deadline. Destroying it disarms it. The callback runs on the wheel's thread.
class Deadline {
  public:
    explicit Deadline(DeadlineWheel& wheel) : wheel_(&wheel) {}
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;
    ~Deadline() { disarm(); }

    // Replaces an earlier one. Zero or less: no deadline.
    void arm(std::chrono::milliseconds after, std::function<void()> on_expiry);
    void disarm();
    [[nodiscard]] bool is_armed() const { return previous_ != nullptr; }
    // Its owner goes to another thread. Only while it isn't armed.
    void move_to(DeadlineWheel& wheel);

  private:
    friend class DeadlineWheel;
    DeadlineWheel* wheel_;
    Deadline* next_ = nullptr;
    Deadline* previous_ = nullptr;  // null: not linked
    std::size_t slot_ = 0;
    SteadyTime expires_{};
    std::function<void()> on_expiry_;
};

class DeadlineWheel {
  public:
    // The wheel outlives the context, whose end destroys coroutines that own deadlines.
    void attach(asio::io_context& context);
    void detach();
    static constexpr std::chrono::milliseconds tick{10};

  private:
    friend class Deadline;
    static constexpr std::size_t slot_count = 1024;

    void link(Deadline& deadline);
    void start_ticking();
    void on_tick();

    std::unique_ptr<Timer> timer_;
    std::array<Deadline*, slot_count> slots_{};  // each a list head; the first entry's previous_ is itself
    std::size_t armed_count_ = 0;
    std::size_t position_ = 0;
    SteadyTime position_time_{};
    bool ticking_ = false;
};

}  // namespace pgporter
