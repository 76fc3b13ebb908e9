// Interrupt: how a move that waits for a server is told to give up: by its operator (cancel) or because the process
// ends (stop). One per move, shared by the move's threads. raise functions: any thread. Every wait in the mover polls
// fds() beside its socket. Inside the pause and while undoing, the move shields itself: what has been begun there must
// be ended properly.
#pragma once

#include <poll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <optional>

#include "base/result.hpp"

namespace pgporter {

// A flag that poll() can wait for.
class WakeFlag {
  public:
    WakeFlag();
    ~WakeFlag();
    WakeFlag(const WakeFlag&) = delete;
    WakeFlag& operator=(const WakeFlag&) = delete;

    void raise();
    void lower();
    [[nodiscard]] bool raised() const { return raised_.load(std::memory_order_acquire); }
    [[nodiscard]] int fd() const { return fd_; }

  private:
    int fd_ = -1;
    std::atomic<bool> raised_{false};
};

enum class Shield {
    none,    // cancel and stop are heard
    cancel,  // only stop is heard (undoing)
    all      // nothing is heard (the pause; its waits have deadlines)
};

class Interrupt {
  public:
    void cancel() { cancel_.raise(); }
    void stop() { stop_.raise(); }
    // Something to be done now that isn't an end (an operator's cutover, a finished worker): wakes waits in `sleep`
    // only.
    void nudge() { nudge_.raise(); }

    void shield(Shield shield) { shield_.store(shield, std::memory_order_release); }
    [[nodiscard]] bool cancelled() const { return cancel_.raised(); }
    [[nodiscard]] bool stopped() const { return stop_.raised(); }
    [[nodiscard]] bool heard() const;   // something is raised that the shield lets through
    [[nodiscard]] Error error() const;  // of what was heard

    // Poll entries of what the shield lets through; an fd of -1 is ignored by poll().
    [[nodiscard]] std::array<pollfd, 2> fds() const;
    // Waits; false when it was interrupted. A nudge ends the wait early.
    bool sleep(std::chrono::milliseconds duration);

  private:
    WakeFlag cancel_;
    WakeFlag stop_;
    WakeFlag nudge_;
    std::atomic<Shield> shield_{Shield::none};
};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;
[[nodiscard]] inline Deadline after(std::chrono::milliseconds duration) {
    return std::chrono::steady_clock::now() + duration;
}
// For poll(): -1 without a deadline, 0 when it has passed.
[[nodiscard]] int poll_ms(const Deadline& deadline);
[[nodiscard]] inline bool passed(const Deadline& deadline) {
    return deadline && std::chrono::steady_clock::now() >= *deadline;
}

}  // namespace pgporter
