#include "proxy/pool/latency_probe.hpp"

namespace pgporter {

class LatencyProbe::Watch final : public LatencyWatch {
  public:
    explicit Watch(LatencyProbe& probe) : probe_(probe) {
        probe_.watchers_.fetch_add(1, std::memory_order_relaxed);
        static_cast<void>(take());
    }
    ~Watch() override { probe_.watchers_.fetch_sub(1, std::memory_order_relaxed); }

    [[nodiscard]] LatencyHistogram take() override {
        LatencyHistogram since;
        for (std::size_t bucket = 0; bucket < LatencyHistogram::buckets; ++bucket) {
            const auto now = probe_.counts_[bucket].load(std::memory_order_relaxed);
            since.add(bucket, now - seen_[bucket]);
            seen_[bucket] = now;
        }
        return since;
    }

  private:
    LatencyProbe& probe_;
    std::array<std::uint64_t, LatencyHistogram::buckets> seen_{};
};

LatencyProbe& LatencyProbes::of(std::string_view cluster) {
    const std::lock_guard lock(mutex_);
    auto at = probes_.find(cluster);
    if (at == probes_.end()) at = probes_.emplace(std::string(cluster), std::make_unique<LatencyProbe>()).first;
    return *at->second;
}

std::unique_ptr<LatencyWatch> LatencyProbes::watch(std::string_view cluster) {
    return std::make_unique<LatencyProbe::Watch>(of(cluster));
}

}  // namespace pgporter
