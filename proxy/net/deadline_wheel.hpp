// Deadlines for a thread: one coarse timer for all of them. Arming and disarming are O(1), and arming makes a system call only where nothing that
// is armed comes earlier; an expiry is up to one tick late, never early. The wheel sleeps until the first slot that is in use, so a thread
// whose clients are idle hardly wakes. One wheel per I/O thread; not thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
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

    // Ticks since the wheel was made. What is due at one of them waits in its slot, at the same place a turn of the wheel later.
    using Tick = std::uint64_t;
    static constexpr Tick never = ~Tick{0};

    [[nodiscard]] Tick tick_at(SteadyTime time) const { return time <= start_ ? 0 : static_cast<Tick>((time - start_) / tick); }
    void link(Deadline& deadline, SteadyTime now);
    void unlink(Deadline& deadline);
    [[nodiscard]] Tick next_in_use() const;
    void sleep_until(Tick wake);
    void on_wake();
    void expire(std::size_t slot, SteadyTime now);

    std::unique_ptr<Timer> timer_;
    const SteadyTime start_ = std::chrono::steady_clock::now();
    std::array<Deadline*, slot_count> slots_{};  // each a list head; the first entry's previous_ is itself
    std::array<std::uint64_t, slot_count / 64> in_use_{};  // a bit for each slot
    std::size_t armed_count_ = 0;
    Tick done_ = 0;        // up to it all slots have been looked at
    Tick wake_ = never;    // when the timer will fire
    bool is_awake_ = false;  // it has fired, and is set again when all that is due has been called
};

}  // namespace pgporter
