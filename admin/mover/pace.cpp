#include "admin/mover/pace.hpp"

#include <algorithm>
#include <cmath>

namespace pgporter {
namespace {

constexpr double slower = 0.5;
constexpr double doubled = 2;  // while nobody has suffered yet
constexpr double back = 1.25;  // to near the ceiling
constexpr double near = 0.8;   // of the ceiling
constexpr double step = 0.01;  // near the ceiling and above it, times how often all was well there

}  // namespace

void Pace::judge(Neighbours neighbours) {
    if (neighbours == Neighbours::suffering) {
        ceiling_ = share_;
        well_near_it_ = 0;
        share_ = std::max(share_min_, share_ * slower);
    } else if (neighbours != Neighbours::bearable) {
        if (ceiling_ && share_ >= *ceiling_ * near) ++well_near_it_;
        share_ = std::min(1.0, faster());
    }
}

double Pace::faster() const {
    if (!ceiling_) return share_ * doubled;
    if (well_near_it_ == 0) return std::min(share_ * back, *ceiling_ * near);
    return share_ * std::min(doubled, 1 + step * well_near_it_);
}

PacePlan plan_pace(double share, std::uint32_t jobs) {
    const double wanted = share * std::max<std::uint32_t>(jobs, 1);
    const auto workers = std::max<std::uint32_t>(1, static_cast<std::uint32_t>(std::ceil(wanted - 1e-9)));
    return {workers, std::min(1.0, wanted / workers), share < 1};
}

}  // namespace pgporter
