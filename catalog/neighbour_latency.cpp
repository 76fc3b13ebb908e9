#include "catalog/neighbour_latency.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace pgporter {
namespace {

constexpr unsigned steps_log2 = 3;
constexpr std::uint64_t steps = 1U << steps_log2;  // buckets from each power of two to the next

}  // namespace

// Times below eight units have a bucket each; a unit is an eighth of a microsecond.
std::size_t LatencyHistogram::bucket_of(std::chrono::nanoseconds time) {
    const auto units = static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 0)) / 125;
    if (units < steps) return static_cast<std::size_t>(units);
    const auto octave = static_cast<unsigned>(std::bit_width(units)) - steps_log2 - 1;
    return std::min<std::size_t>(octave * steps + (units >> octave), buckets - 1);
}

double LatencyHistogram::microseconds_of(std::size_t bucket) {
    if (bucket < steps) return (static_cast<double>(bucket) + 0.5) / 8;
    const auto octave = bucket / steps - 1;
    return std::ldexp(static_cast<double>(steps + bucket % steps) + 0.5, static_cast<int>(octave)) / 8;
}

void LatencyHistogram::add(const LatencyHistogram& other) {
    for (std::size_t bucket = 0; bucket < buckets; ++bucket) counts_[bucket] += other.counts_[bucket];
    total_ += other.total_;
}

double LatencyHistogram::quantile_microseconds(double quantile) const {
    if (total_ == 0) return 0;
    const auto rank = static_cast<std::uint64_t>(quantile * static_cast<double>(total_ - 1));
    std::uint64_t below = 0;
    for (std::size_t bucket = 0; bucket < buckets; ++bucket) {
        below += counts_[bucket];
        if (below > rank) return microseconds_of(bucket);
    }
    return microseconds_of(buckets - 1);
}

std::uint64_t LatencyHistogram::count_above(double microseconds) const {
    std::uint64_t above = 0;
    for (auto bucket = bucket_of(std::chrono::nanoseconds(std::llround(microseconds * 1'000))) + 1; bucket < buckets; ++bucket) above += counts_[bucket];
    return above;
}

}  // namespace pgporter
