#include "proxy/net/deadline_wheel.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace pgporter {

void Deadline::arm(std::chrono::milliseconds after, std::function<void()> on_expiry) {
    disarm();
    if (after.count() <= 0) return;
    expires_ = std::chrono::steady_clock::now() + after;
    on_expiry_ = std::move(on_expiry);
    wheel_->link(*this);
}

void Deadline::disarm() {
    if (previous_ == nullptr) return;
    if (previous_ == this) {  // the first of its slot
        wheel_->slots_[slot_] = next_;
        if (next_ != nullptr) next_->previous_ = next_;
    } else {
        previous_->next_ = next_;
        if (next_ != nullptr) next_->previous_ = previous_;
    }
    next_ = nullptr;
    previous_ = nullptr;
    --wheel_->armed_count_;
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
    ticking_ = false;
}

void DeadlineWheel::link(Deadline& deadline) {
    if (!ticking_) {
        position_time_ = std::chrono::steady_clock::now();
        start_ticking();
    }
    const auto ahead = std::chrono::duration_cast<std::chrono::milliseconds>(deadline.expires_ - position_time_) / tick + 1;
    // A deadline beyond one turn waits in its slot until its own time has come.
    const std::size_t slot = (position_ + static_cast<std::size_t>(std::max<long long>(1, ahead))) % slot_count;
    deadline.slot_ = slot;
    deadline.next_ = slots_[slot];
    if (deadline.next_ != nullptr) deadline.next_->previous_ = &deadline;
    deadline.previous_ = &deadline;
    slots_[slot] = &deadline;
    ++armed_count_;
}

void DeadlineWheel::start_ticking() {
    if (!timer_) return;
    ticking_ = true;
    timer_->expires_at(position_time_ + tick);
    timer_->async_wait([this](const boost::system::error_code& error) {
        if (!error) on_tick();
    });
}

void DeadlineWheel::on_tick() {
    const auto now = std::chrono::steady_clock::now();
    while (position_time_ + tick <= now) {
        position_time_ += tick;
        position_ = (position_ + 1) % slot_count;
        // A callback may arm or disarm any deadline, also of this slot: start over until none of it has expired.
        bool again = true;
        while (again) {
            again = false;
            for (Deadline* at = slots_[position_]; at != nullptr; at = at->next_) {
                if (at->expires_ > now) continue;
                const auto callback = std::move(at->on_expiry_);
                at->disarm();
                callback();
                again = true;
                break;
            }
        }
    }
    if (armed_count_ == 0) {
        ticking_ = false;
        return;
    }
    start_ticking();
}

}  // namespace pgporter
