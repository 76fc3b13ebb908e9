#include "proxy/net/deadline_wheel.hpp"

#include <algorithm>
#include <bit>

#include "base/assert.hpp"

namespace pgporter {

void Deadline::arm(std::chrono::milliseconds after, std::function<void()> on_expiry) {
    disarm();
    if (after.count() <= 0) return;
    const SteadyTime now = std::chrono::steady_clock::now();
    expires_ = now + after;
    on_expiry_ = std::move(on_expiry);
    wheel_->link(*this, now);
}

void Deadline::disarm() {
    if (previous_ != nullptr) wheel_->unlink(*this);
}

void Deadline::move_to(DeadlineWheel& wheel) {
    PP_ASSERT(!is_armed());
    wheel_ = &wheel;
}

void DeadlineWheel::attach(asio::io_context& context) {
    timer_ = std::make_unique<Timer>(context.get_executor());
}

void DeadlineWheel::detach() {
    timer_.reset();
    wake_ = never;
}

void DeadlineWheel::link(Deadline& deadline, SteadyTime now) {
    if (armed_count_ == 0 && !is_awake_) done_ = tick_at(now);  // all slots are empty
    const Tick due = std::max(tick_at(deadline.expires_), done_) + 1;
    const std::size_t slot = due % slot_count;
    deadline.slot_ = slot;
    deadline.next_ = slots_[slot];
    if (deadline.next_ != nullptr) deadline.next_->previous_ = &deadline;
    deadline.previous_ = &deadline;
    slots_[slot] = &deadline;
    in_use_[slot / 64] |= std::uint64_t{1} << slot % 64;
    ++armed_count_;
    if (due < wake_ && !is_awake_) sleep_until(due);
}

void DeadlineWheel::unlink(Deadline& deadline) {
    const std::size_t slot = deadline.slot_;
    if (deadline.previous_ == &deadline) {  // the first of its slot
        slots_[slot] = deadline.next_;
        if (deadline.next_ != nullptr) deadline.next_->previous_ = deadline.next_;
        if (deadline.next_ == nullptr) in_use_[slot / 64] &= ~(std::uint64_t{1} << slot % 64);
    } else {
        deadline.previous_->next_ = deadline.next_;
        if (deadline.next_ != nullptr) deadline.next_->previous_ = deadline.previous_;
    }
    deadline.next_ = nullptr;
    deadline.previous_ = nullptr;
    --armed_count_;  // the timer stays as it is: to fire for nothing once is cheaper than to be set at each end of a wait
}

// The first tick behind done_ whose slot is in use. A deadline beyond one turn waits there until its own time has come.
DeadlineWheel::Tick DeadlineWheel::next_in_use() const {
    if (armed_count_ == 0) return never;
    const std::size_t first = (done_ + 1) % slot_count;
    std::uint64_t word = in_use_[first / 64] >> first % 64;
    if (word != 0) return done_ + 1 + static_cast<Tick>(std::countr_zero(word));
    std::size_t ahead = 64 - first % 64;  // and at last the first word again, for what is before `first`
    while ((word = in_use_[(first + ahead) % slot_count / 64]) == 0) ahead += 64;
    return done_ + 1 + ahead + static_cast<Tick>(std::countr_zero(word));
}

void DeadlineWheel::sleep_until(Tick wake) {
    wake_ = wake;
    if (!timer_ || wake == never) return;
    timer_->expires_at(start_ + tick * static_cast<std::int64_t>(wake));
    timer_->async_wait([this](const boost::system::error_code& error) {
        if (!error) on_wake();
    });
}

void DeadlineWheel::on_wake() {
    const SteadyTime now = std::chrono::steady_clock::now();
    const Tick reached = tick_at(now);
    is_awake_ = true;
    if (reached > done_ + slot_count) done_ = reached - slot_count;  // one turn sees them all
    for (Tick next = next_in_use(); next <= reached; next = next_in_use()) {
        done_ = next;
        expire(next % slot_count, now);
    }
    done_ = std::max(done_, reached);
    is_awake_ = false;
    sleep_until(next_in_use());
}

// A callback may arm or disarm any deadline, also of this slot: start over until none of it has expired.
void DeadlineWheel::expire(std::size_t slot, SteadyTime now) {
    for (Deadline* at = slots_[slot]; at != nullptr;) {
        if (at->expires_ > now) {
            at = at->next_;
            continue;
        }
        const auto callback = std::move(at->on_expiry_);
        at->disarm();
        callback();
        at = slots_[slot];
    }
}

}  // namespace pgporter
