// ConnectPace: how fast one thread opens connections to one cluster. So many at once; when the server takes none, one try at a time with growing
// pauses, so that a server that comes up isn't kept busy with logins; and whether who waits meanwhile should go on waiting. Pure; owned by a PoolSet
// (for a cluster) or a Pool (for what its server refuses to its user or database alone).
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>

#include "base/result.hpp"
#include "catalog/config.hpp"
#include "proxy/net/types.hpp"

namespace pgporter {

class ConnectPace {
  public:
    static constexpr Milliseconds first_pause{50};

    struct Bounds {
        std::size_t at_once_max = 1;
        Milliseconds pause_max{1'000};
        Milliseconds outage_wait_max{0};  // so long whoever waits isn't told
    };
    explicit ConnectPace(Bounds bounds) : bounds_(bounds) {}

    [[nodiscard]] bool may_try(SteadyTime now) const {
        if (!failure_) return trying_ < bounds_.at_once_max;
        return trying_ == 0 && now >= next_try_;
    }
    // Only after may_try(). Exactly one of the three others follows.
    void began() { ++trying_; }
    void succeeded() {
        --trying_;
        failure_.reset();
    }
    // `jitter` from 0 to 1: threads and instances don't try in step. `is_final`: there is no sense in waiting for a better answer.
    void failed(SteadyTime now, Error why, double jitter, bool is_final) {
        --trying_;
        if (!failure_) {
            down_since_ = now;
            pause_ = first_pause;
        } else if (now >= next_try_) {  // else it is one of several that were under way together
            pause_ = std::min(pause_ * 2, bounds_.pause_max);
        }
        is_final_ = is_final;
        failure_ = std::move(why);
        const auto spread = std::chrono::duration_cast<Milliseconds>(pause_ * (0.75 + jitter / 2));
        next_try_ = std::max(next_try_, now + std::min(spread, bounds_.pause_max));
    }
    // It ended in a way that tells nothing of the server.
    void gave_up() { --trying_; }

    // What stood in the way may be otherwise now.
    void forget_failure() { failure_.reset(); }

    [[nodiscard]] bool is_down() const { return failure_.has_value(); }
    // What whoever waits is told now; null: nothing, he should wait.
    [[nodiscard]] const Error* verdict(SteadyTime now) const {
        if (!failure_) return nullptr;
        return is_final_ || now - down_since_ >= bounds_.outage_wait_max ? &*failure_ : nullptr;
    }
    // Why the server takes no connections; null: as far as is known it does.
    [[nodiscard]] const Error* failure() const { return failure_ ? &*failure_ : nullptr; }
    [[nodiscard]] SteadyTime next_try() const { return next_try_; }
    [[nodiscard]] std::size_t trying() const { return trying_; }

  private:
    Bounds bounds_;
    std::size_t trying_ = 0;
    std::optional<Error> failure_;  // of the last try; none: the server takes connections, as far as is known
    SteadyTime down_since_{};
    SteadyTime next_try_{};
    Milliseconds pause_{0};
    bool is_final_ = false;
};

}  // namespace pgporter
