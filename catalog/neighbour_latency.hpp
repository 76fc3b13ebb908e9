// NeighbourLatency: the port through which a move learns what it does to the tenants that share a cluster with it. The data path implements
// it (proxy/pool/latency_probe.hpp): from a request on a server connection to the end of its reply, of all tenants, and only while somebody
// watches. LatencyHistogram: such times, in counts by bucket. A value; pure.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace pgporter {

class LatencyHistogram {
  public:
    // From 1 microsecond to more than a minute, eight buckets from each power of two to the next: a quantile is right to a tenth.
    static constexpr std::size_t buckets = 216;
    [[nodiscard]] static std::size_t bucket_of(std::chrono::nanoseconds time);
    [[nodiscard]] static double microseconds_of(std::size_t bucket);  // its middle

    void add(std::size_t bucket, std::uint64_t count) {
        counts_[bucket] += count;
        total_ += count;
    }
    void add(const LatencyHistogram& other);
    void clear() { *this = LatencyHistogram(); }
    [[nodiscard]] std::uint64_t total() const { return total_; }
    [[nodiscard]] double quantile_microseconds(double quantile) const;  // 0 when it is empty
    [[nodiscard]] std::uint64_t count_above(double microseconds) const;  // those in higher buckets

  private:
    std::array<std::uint64_t, buckets> counts_{};
    std::uint64_t total_ = 0;
};

class LatencyWatch {
  public:
    virtual ~LatencyWatch() = default;
    [[nodiscard]] virtual LatencyHistogram take() = 0;  // since the last call
};

class NeighbourLatency {
  public:
    virtual ~NeighbourLatency() = default;
    // Any thread. The watch must not outlive this.
    [[nodiscard]] virtual std::unique_ptr<LatencyWatch> watch(std::string_view cluster) = 0;
};

}  // namespace pgporter
