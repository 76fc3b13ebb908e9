#include <doctest/doctest.h>

#include "admin/mover/lag_trend.hpp"

using namespace pgporter;

namespace {

constexpr std::uint64_t mib = 1'048'576;

// One sample a second, of so many MiB each.
bool falls_behind(std::initializer_list<std::uint64_t> lags) {
    LagTrend trend(std::chrono::seconds(6));
    LagTrend::Time now{};
    for (const auto lag : lags) {
        trend.add(now, lag * mib);
        now += std::chrono::seconds(1);
    }
    return trend.is_falling_behind();
}

}  // namespace

TEST_CASE("a lag that doesn't shrink over a whole window falls behind") {
    CHECK(falls_behind({10, 20, 30, 40, 50, 60, 70}));
    CHECK(falls_behind({10, 10, 10, 10, 10, 10, 10}));
    CHECK(falls_behind({100, 20, 30, 40, 20, 60, 70, 20, 60}));  // it comes and goes, and never below
}

TEST_CASE("a lag that shrinks, is next to nothing, or wasn't seen for long enough doesn't") {
    CHECK_FALSE(falls_behind({}));
    CHECK_FALSE(falls_behind({10, 20, 30}));
    CHECK_FALSE(falls_behind({70, 60, 50, 40, 30, 20, 10}));
    CHECK_FALSE(falls_behind({20, 30, 40, 50, 60, 50, 19}));
    CHECK_FALSE(falls_behind({0, 0, 0, 0, 0, 0, 0, 0}));
    CHECK_FALSE(falls_behind({10, 20, 30, 40, 50, 60, 70, 80, 70, 60, 50, 40, 30, 5}));  // an old window is forgotten
}
