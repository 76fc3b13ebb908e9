#include "admin/mover/copy_pacer.hpp"

#include <poll.h>

#include <algorithm>

#include "base/assert.hpp"

namespace pgporter {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds pause_max = std::chrono::seconds(1);
constexpr nanoseconds too_short = milliseconds(1);  // not worth a sleep: it is remembered instead

// False: interrupted. Not Interrupt::sleep(): a nudge is for the move's own thread.
bool pause_for(nanoseconds duration, const Interrupt& interrupt) {
    const Deadline deadline = std::chrono::steady_clock::now() + duration;
    while (!passed(deadline)) {
        auto ends = interrupt.fds();
        ::poll(ends.data(), ends.size(), poll_ms(deadline));
        if (interrupt.heard()) return false;
    }
    return true;
}

}  // namespace

const char* to_text(SlowedBy by) {
    switch (by) {
        case SlowedBy::neighbours:
            return "neighbours";
        case SlowedBy::standbys:
            return "standbys";
        case SlowedBy::rate:
            return "copy_mib_per_s_max";
    }
    PP_ASSERT(false);
}

void CopyPacer::set_pace(PacePlan plan, SlowedBy by) {
    workers_.store(plan.workers, std::memory_order_relaxed);
    duty_.store(plan.duty, std::memory_order_relaxed);
    by_.store(by, std::memory_order_relaxed);
    stride_length_.store(plan.is_slowed ? StrideLength::small : StrideLength::moderate, std::memory_order_relaxed);
}

StrideLength CopyPacer::stride_length() const {
    return bytes_per_second_max_ > 0 ? StrideLength::small : stride_length_.load(std::memory_order_relaxed);
}

// Whoever comes first pays first; a second's worth may have been saved up.
nanoseconds CopyPacer::wait_for_rate(std::uint64_t bytes, Time now) {
    if (bytes_per_second_max_ == 0) return nanoseconds(0);
    const std::chrono::duration<double> price(static_cast<double>(bytes) / static_cast<double>(bytes_per_second_max_));
    const std::lock_guard lock(mutex_);
    paid_until_ = std::max(paid_until_, now - milliseconds(100)) + duration_cast<nanoseconds>(price);
    return paid_until_ - now;
}

CopyPacer::Worker::Worker(CopyPacer& pacer) : pacer_(pacer) {
    pacer_.at_work_.fetch_add(1);
}

CopyPacer::Worker::~Worker() {
    pacer_.at_work_.fetch_sub(1);
}

bool CopyPacer::Worker::sleep(nanoseconds duration, SlowedBy by, const Interrupt& interrupt) {
    pacer_.slept_[static_cast<std::size_t>(by)].fetch_add(duration.count(), std::memory_order_relaxed);
    return pause_for(duration, interrupt);
}

// One of too many stops here until another has ended, or more may work.
bool CopyPacer::Worker::wait_for_turn(const Interrupt& interrupt) {
    {
        const std::lock_guard lock(pacer_.mutex_);
        if (pacer_.at_work_.load() <= std::max<std::uint32_t>(pacer_.workers_.load(), 1)) return true;
        pacer_.at_work_.fetch_sub(1);
    }
    for (;;) {
        const bool goes_on = sleep(milliseconds(50), pacer_.by_.load(std::memory_order_relaxed), interrupt);
        const std::lock_guard lock(pacer_.mutex_);
        if (goes_on && pacer_.at_work_.load() >= pacer_.workers_.load()) continue;
        pacer_.at_work_.fetch_add(1);
        return goes_on;
    }
}

bool CopyPacer::Worker::pay(std::uint64_t bytes, const Interrupt& interrupt) {
    const auto now = std::chrono::steady_clock::now();
    const nanoseconds worked = now - working_since_;
    const double duty = pacer_.duty_.load(std::memory_order_relaxed);
    const auto owed = std::min(pause_max, duration_cast<nanoseconds>(worked * (1 / duty - 1)));
    const auto for_rate = std::min(pause_max, pacer_.wait_for_rate(bytes, now));
    // What isn't worth a sleep yet goes on counting as work that is to be paid for.
    const bool is_quick = std::max(owed, for_rate) < too_short;
    const bool has_turn = pacer_.at_work_.load(std::memory_order_relaxed) <= pacer_.workers_.load(std::memory_order_relaxed);
    if (is_quick && has_turn && worked < milliseconds(100)) return true;
    pacer_.worked_.fetch_add(worked.count(), std::memory_order_relaxed);
    bool goes_on = true;
    if (!is_quick) {
        goes_on = owed >= for_rate ? sleep(owed, pacer_.by_.load(std::memory_order_relaxed), interrupt) : sleep(for_rate, SlowedBy::rate, interrupt);
    }
    goes_on = goes_on && wait_for_turn(interrupt);
    working_since_ = std::chrono::steady_clock::now();
    return goes_on;
}

}  // namespace pgporter
