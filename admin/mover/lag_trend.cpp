#include "admin/mover/lag_trend.hpp"

#include <algorithm>
#include <limits>

namespace pgporter {
namespace {

constexpr std::uint64_t next_to_nothing = 1'048'576;

}  // namespace

void LagTrend::add(Time now, std::uint64_t lag_bytes) {
    samples_.push_back({now, lag_bytes});
    // One sample older than the window stays: it tells that the window is full.
    while (samples_.size() > 2 && now - samples_[1].at >= window_) samples_.pop_front();
}

bool LagTrend::is_falling_behind() const {
    if (samples_.empty() || samples_.back().at - samples_.front().at < window_) return false;
    const auto middle = samples_.back().at - window_ / 2;
    auto older = std::numeric_limits<std::uint64_t>::max();
    auto newer = older;
    for (const auto& sample : samples_) {
        auto& half = sample.at < middle ? older : newer;
        half = std::min(half, sample.lag_bytes);
    }
    return newer >= older && newer >= next_to_nothing;
}

}  // namespace pgporter
