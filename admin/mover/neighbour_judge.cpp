#include "admin/mover/neighbour_judge.hpp"

#include <algorithm>
#include <cmath>

namespace pgporter {
namespace {

constexpr double quantile = 0.99;
// Whoever waits waits for a transaction, of three or four statements: for a hundredth of those, a third of a hundredth of these.
constexpr double slow_allowed = (1 - quantile) / 3;
constexpr double calm = 0.6;             // of what is allowed: there is room for more
constexpr double saved = 0.85;           // of what is allowed in the long run, before more is tried
constexpr double debt_max = 2;           // times what is allowed: a bad moment isn't paid for until the end
constexpr double beyond_chance = 2;      // standard deviations
constexpr std::uint64_t few = 100;       // fewer statements say nothing
constexpr std::uint64_t enough = 300;    // to say that all is well
constexpr std::uint64_t plenty = 2'000;  // to compare a long copy with
constexpr double long_ago = 20'000;      // statements
constexpr std::chrono::seconds well_for{1};
constexpr std::chrono::seconds judged_within{4};

}  // namespace

void NeighbourJudge::learn(const LatencyHistogram& seen) {
    if (quiet_.total() < plenty) quiet_.add(seen);
}

bool NeighbourJudge::knows_enough() const {
    return quiet_.total() == 0 || quiet_.total() >= enough;
}

bool NeighbourJudge::knows_plenty() const {
    return quiet_.total() == 0 || quiet_.total() >= plenty;
}

bool NeighbourJudge::has_neighbours() const {
    return quiet_.total() >= few;
}

double NeighbourJudge::latency_ratio() const {
    if (!has_neighbours() || recent_.total() < few) return 0;
    return recent_.quantile_microseconds(quantile) / quiet_.quantile_microseconds(quantile);
}

std::optional<Neighbours> NeighbourJudge::judge(std::chrono::nanoseconds since) {
    if (!has_neighbours()) return since >= judged_within ? std::optional(Neighbours::absent) : std::nullopt;
    const auto all = recent_.total();
    const auto slow = recent_.count_above(quiet_.quantile_microseconds(quantile) * ratio_max_);
    const auto verdict = weigh(all, slow, since);
    if (!verdict) return std::nullopt;
    all_ += static_cast<double>(all);
    slow_ = std::min(slow_ + static_cast<double>(slow), debt_max * slow_allowed * all_);
    if (all_ > long_ago) {
        all_ /= 2;
        slow_ /= 2;
    }
    recent_.clear();
    return verdict;
}

std::optional<Neighbours> NeighbourJudge::weigh(std::uint64_t all, std::uint64_t slow, std::chrono::nanoseconds since) const {
    const double allowed = slow_allowed * static_cast<double>(all);
    const auto found = static_cast<double>(slow);
    const bool overspent = slow_ > slow_allowed * all_;
    if (all >= few && found > allowed + beyond_chance * std::sqrt(allowed)) return Neighbours::suffering;
    if (all >= enough && overspent && found > allowed) return Neighbours::suffering;
    const bool is_well = found <= calm * allowed;
    if ((all >= enough && is_well && since >= well_for) || since >= judged_within) {
        if (all < few) return Neighbours::absent;
        const bool may_spend = slow_ + found <= saved * slow_allowed * (all_ + static_cast<double>(all));
        return is_well && may_spend ? Neighbours::well : Neighbours::bearable;
    }
    return std::nullopt;
}

}  // namespace pgporter
