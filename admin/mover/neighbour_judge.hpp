// NeighbourJudge: whether the tenants of one cluster suffer from a copy. The slowest hundredth of their transactions may take `ratio_max` times as
// long as before: so of their statements, of which a transaction has several, few may be slower than that. Counts of the slow tell it sooner, and
// with less chance in them, than the p99 of a moment would; and what was spent too much is saved later. Pure; one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "admin/mover/pace.hpp"
#include "catalog/neighbour_latency.hpp"

namespace pgporter {

class NeighbourJudge {
  public:
    explicit NeighbourJudge(double ratio_max) : ratio_max_(ratio_max) {}

    // Before the copy: what they are used to. Once it is plenty, no more is taken.
    void learn(const LatencyHistogram& seen);
    void learn_anew() { quiet_.clear(); }
    [[nodiscard]] bool knows_enough() const;   // or there is nobody
    [[nodiscard]] bool knows_plenty() const;   // or there is nobody
    [[nodiscard]] bool has_neighbours() const;

    // While it copies.
    void see(const LatencyHistogram& seen) { recent_.add(seen); }
    void forget_recent() { recent_.clear(); }
    // Of what was seen in the time since the last verdict. None: not enough yet.
    [[nodiscard]] std::optional<Neighbours> judge(std::chrono::nanoseconds since);
    // Their p99 now to that before. 0: not known.
    [[nodiscard]] double latency_ratio() const;

  private:
    [[nodiscard]] std::optional<Neighbours> weigh(std::uint64_t all, std::uint64_t slow, std::chrono::nanoseconds since) const;

    const double ratio_max_;
    LatencyHistogram quiet_;
    LatencyHistogram recent_;
    double all_ = 0;  // since the copy began; what is long ago counts less
    double slow_ = 0;
};

}  // namespace pgporter
