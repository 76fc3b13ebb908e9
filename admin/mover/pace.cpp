#include "admin/mover/pace.hpp"

#include <algorithm>
#include <cmath>

namespace pgporter {
namespace {

constexpr double slower = 0.5;
constexpr double faster = 0.05;
// Just below the bound nothing changes, or the copy would swing around it.
constexpr double calm = 0.85;

}  // namespace

void Pace::judge(std::optional<double> latency_ratio, bool standbys_lag) {
    const bool is_looked_at = bounds_.latency_ratio_max > 0 && latency_ratio.has_value();
    if (standbys_lag || (is_looked_at && *latency_ratio > bounds_.latency_ratio_max)) {
        share_ = std::max(bounds_.share_min, share_ * slower);
    } else if (!is_looked_at || *latency_ratio <= std::max(1.0, bounds_.latency_ratio_max * calm)) {
        share_ = std::min(1.0, share_ + faster);
    }
}

PacePlan plan_pace(double share, std::uint32_t jobs) {
    const double wanted = share * std::max<std::uint32_t>(jobs, 1);
    const auto workers = std::max<std::uint32_t>(1, static_cast<std::uint32_t>(std::ceil(wanted - 1e-9)));
    return {workers, std::min(1.0, wanted / workers)};
}

}  // namespace pgporter
