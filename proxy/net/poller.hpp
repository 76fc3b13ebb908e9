// Poller: tells the thread's streams when their sockets are ready. Asio arms a socket anew for each wait, which is a system call; here a socket is
// registered once, edge-triggered, and a Readiness remembers what was reported and not yet used up. The poller itself is one descriptor among
// Asio's (the Bell). One per io_context, as its service; on its thread only.
//
// It must not: read or write a socket, own one.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <boost/asio/execution_context.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "proxy/net/types.hpp"
#include "proxy/net/waiter.hpp"

namespace pgporter {

class Poller;

// Of one socket; a member of whoever owns it.
class Readiness {
  public:
    Readiness(Poller& poller, int fd);  // below 0: nothing will ever be ready
    Readiness(const Readiness&) = delete;
    Readiness& operator=(const Readiness&) = delete;
    ~Readiness() { stop(); }

    // The socket has given all it had. What came since is reported anew.
    void used_up() { has_input_ = false; }
    [[nodiscard]] bool has_input() const { return has_input_; }
    void wait_for_input(Waiter waiter);
    // Only behind a write that the socket didn't take.
    void wait_for_room(Waiter waiter);
    // What comes in is handled before anything that has come in elsewhere at the same time.
    void go_first() { goes_first_ = true; }
    // Nothing has come in, and the peer hasn't ended it, as of now. False: that isn't known.
    [[nodiscard]] bool is_quiet() const;
    // Though nothing has come in.
    void wake_readers();
    // Before the socket is closed: whoever waits is told so, later.
    void stop();

  private:
    friend class Poller;
    void on_events(std::uint32_t events);
    static void add(Waiter& first, std::vector<Waiter>& others, Waiter waiter);

    Poller& poller_;
    int fd_;
    bool has_input_ = false;
    bool has_ended_ = false;   // the peer has closed, at least its side: there is something to read for ever
    bool goes_first_ = false;
    Waiter reader_;
    Waiter writer_;
    std::vector<Waiter> other_readers_;  // rarely any
    std::vector<Waiter> other_writers_;
    Readiness* next_ = nullptr;
    Readiness* previous_ = nullptr;
};

class Poller final : public asio::execution_context::service {
  public:
    static asio::execution_context::id id;

    explicit Poller(asio::execution_context& context);
    ~Poller() override;
    Poller(const Poller&) = delete;
    Poller& operator=(const Poller&) = delete;

    [[nodiscard]] static Poller& of(asio::io_context& context);

  private:
    friend class Readiness;
    static constexpr std::size_t events_max = 128;
    // What was asked of the kernel is taken for the present state for so many sockets' turns.
    static constexpr std::size_t fresh_turns_max = 32;
    static constexpr std::size_t due_reserved = 1'024;

    void shutdown() noexcept override;
    void add(Readiness& one);
    void remove(Readiness& one);
    void on_bell();
    void turn();
    // Not from inside of whatever runs now. No memory is needed for it.
    void wake_later(Readiness& one, Waiter waiter, bool is_ready);
    void wake_due();

    asio::io_context& context_;
    int epoll_fd_;
    class Bell;
    std::unique_ptr<Bell> bell_;
    struct Due {
        Waiter waiter;
        Readiness* of;
        bool is_ready;
    };
    std::array<epoll_event, events_max> events_{};
    std::size_t events_count_ = 0;     // while they are handled
    std::size_t turns_left_ = 0;       // that what the kernel said is fresh
    Readiness* first_ = nullptr;
    std::vector<Due> due_;
    std::vector<Due> waking_;
    bool is_full_ = false;   // there may be more ready than was told
    bool is_awake_ = false;  // what is due is seen to without more ado
};

}  // namespace pgporter
