// RateLimit: a token bucket that holds one second's worth, as one number (the generic cell rate algorithm): the moment at which all that was
// taken would have been spent evenly. Thread-safe without a lock; the limit itself is given with each call, so that it can change.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace pgporter {

class RateLimit {
  public:
    using Clock = std::chrono::steady_clock;
    using Nanoseconds = std::chrono::nanoseconds;
    static constexpr Nanoseconds burst = std::chrono::seconds(1);

    // Takes one and says for how long to wait before using it; none when that would be longer than `wait_max`: nothing is taken then.
    [[nodiscard]] std::optional<Nanoseconds> take(Clock::time_point now, std::uint64_t per_second, Nanoseconds wait_max) {
        const Nanoseconds present = now.time_since_epoch();
        const Nanoseconds cost = burst / static_cast<std::int64_t>(per_second);
        std::int64_t spent = spent_at_.load(std::memory_order_relaxed);
        for (;;) {
            const Nanoseconds next = std::max(Nanoseconds(spent), present) + cost;
            const Nanoseconds wait = std::max(next - burst - present, Nanoseconds(0));
            if (wait > wait_max) return std::nullopt;
            if (spent_at_.compare_exchange_weak(spent, next.count(), std::memory_order_relaxed)) return wait;
        }
    }
    // What was used without asking: it is paid for by whoever asks next.
    void charge(Clock::time_point now, std::uint64_t amount, std::uint64_t per_second) {
        const Nanoseconds present = now.time_since_epoch();
        const auto cost = Nanoseconds(static_cast<std::int64_t>(static_cast<double>(amount) * 1e9 / static_cast<double>(per_second)));
        std::int64_t spent = spent_at_.load(std::memory_order_relaxed);
        while (!spent_at_.compare_exchange_weak(spent, (std::max(Nanoseconds(spent), present) + cost).count(), std::memory_order_relaxed)) {
        }
    }
    // How long until what was charged is paid for, but for the burst.
    [[nodiscard]] Nanoseconds debt(Clock::time_point now) const {
        const Nanoseconds spent(spent_at_.load(std::memory_order_relaxed));
        return std::max(spent - burst - now.time_since_epoch(), Nanoseconds(0));
    }

  private:
    std::atomic<std::int64_t> spent_at_{0};  // ns of the steady clock
};

}  // namespace pgporter
