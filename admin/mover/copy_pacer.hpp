// CopyPacer: what slows the threads of a copy down. Each calls pay() after every piece that it has moved, and sleeps there as long as the
// pace (admin/mover/pace.hpp) and mover.copy_mib_per_s_max want. One per move; thread-safe. It must not: let a sleep outlast the end of the
// move, or last for longer than a second.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

#include "admin/mover/copy_strides.hpp"
#include "admin/mover/interrupt.hpp"
#include "admin/mover/pace.hpp"

namespace pgporter {

enum class SlowedBy { neighbours, standbys, rate };
inline constexpr std::array all_slowing{SlowedBy::neighbours, SlowedBy::standbys, SlowedBy::rate};
[[nodiscard]] const char* to_text(SlowedBy by);  // "neighbours" ..

class CopyPacer {
  public:
    using Time = std::chrono::steady_clock::time_point;
    // One thread's part, as long as it copies: whoever is at work goes on, who must wait goes on when he ends.
    class Worker {
      public:
        explicit Worker(CopyPacer& pacer);
        ~Worker();
        Worker(const Worker&) = delete;
        Worker& operator=(const Worker&) = delete;
        // After so many bytes. Sleeps. False: the move is to end.
        [[nodiscard]] bool pay(std::uint64_t bytes, const Interrupt& interrupt);
        [[nodiscard]] StrideLength stride_length() const { return pacer_.stride_length(); }

      private:
        [[nodiscard]] bool sleep(std::chrono::nanoseconds duration, SlowedBy by, const Interrupt& interrupt);
        [[nodiscard]] bool wait_for_turn(const Interrupt& interrupt);

        CopyPacer& pacer_;
        Time working_since_ = std::chrono::steady_clock::now();
    };

    explicit CopyPacer(std::uint64_t bytes_per_second_max) : bytes_per_second_max_(bytes_per_second_max) {}

    void set_pace(PacePlan plan, SlowedBy by);
    // In how short strides to read, so that the copy can be slowed at all.
    [[nodiscard]] StrideLength stride_length() const;
    // All threads together: how long they have worked and slept.
    [[nodiscard]] std::chrono::nanoseconds worked() const { return std::chrono::nanoseconds(worked_.load(std::memory_order_relaxed)); }
    [[nodiscard]] std::chrono::nanoseconds slept(SlowedBy by) const {
        return std::chrono::nanoseconds(slept_[static_cast<std::size_t>(by)].load(std::memory_order_relaxed));
    }

  private:
    [[nodiscard]] std::chrono::nanoseconds wait_for_rate(std::uint64_t bytes, Time now);

    const std::uint64_t bytes_per_second_max_;  // 0: no bound
    std::atomic<std::uint32_t> workers_{UINT32_MAX};  // may be at work
    std::atomic<std::uint32_t> at_work_{0};
    std::atomic<double> duty_{1};
    std::atomic<StrideLength> stride_length_{StrideLength::all};
    std::atomic<SlowedBy> by_{SlowedBy::neighbours};
    std::atomic<std::int64_t> worked_{0};
    std::array<std::atomic<std::int64_t>, all_slowing.size()> slept_{};
    std::mutex mutex_;
    Time paid_until_{};  // at the bounded rate, everything that was moved is paid for then
};

}  // namespace pgporter
