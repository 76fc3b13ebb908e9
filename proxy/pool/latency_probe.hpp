// LatencyProbe: how long the server connections of one cluster take for their replies, counted by all threads while a move watches. A
// session asks is_watched() first: one relaxed load, and nothing else, when nobody does. LatencyProbes: one for each cluster, as long as the
// process lives. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "catalog/neighbour_latency.hpp"

namespace pgporter {

class LatencyProbe {
  public:
    [[nodiscard]] bool is_watched() const noexcept { return watchers_.load(std::memory_order_relaxed) != 0; }
    void observe(std::chrono::nanoseconds time) noexcept {
        counts_[LatencyHistogram::bucket_of(time)].fetch_add(1, std::memory_order_relaxed);
    }

  private:
    friend class LatencyProbes;
    class Watch;
    std::atomic<std::uint32_t> watchers_{0};
    std::array<std::atomic<std::uint64_t>, LatencyHistogram::buckets> counts_{};
};

class LatencyProbes final : public NeighbourLatency {
  public:
    [[nodiscard]] LatencyProbe& of(std::string_view cluster);  // takes a lock: do it once, keep the reference
    [[nodiscard]] std::unique_ptr<LatencyWatch> watch(std::string_view cluster) override;

  private:
    std::mutex mutex_;
    std::map<std::string, std::unique_ptr<LatencyProbe>, std::less<>> probes_;
};

}  // namespace pgporter
