// Event: one coroutine waits, others on the same thread wake it. A notify() before wait() isn't lost. One waiter at a time.
#pragma once

#include "proxy/net/types.hpp"

namespace pgporter {

class Event {
  public:
    explicit Event(const Executor& executor) : timer_(executor) {}
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    void notify() {
        set_ = true;
        timer_.cancel();
    }
    void clear() { set_ = false; }
    [[nodiscard]] Task<> wait() {
        while (!set_) {
            timer_.expires_at(SteadyTime::max());
            [[maybe_unused]] const auto [cancelled] = co_await timer_.async_wait(as_result);
        }
        set_ = false;
    }

  private:
    Timer timer_;
    bool set_ = false;
};

}  // namespace pgporter
