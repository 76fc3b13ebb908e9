// Counters, gauges and histograms that any thread may touch without a lock. prometheus-cpp reads them through collect()
// (admin/metrics); nobody else includes prometheus-cpp. A registry lives as long as the process; an instrument lives as long
// as its registry, so a pointer to one may be kept. Names are complete Prometheus names: base units, `_total` for counters.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace pgporter::metrics {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
  public:
    void inc(std::uint64_t by = 1) noexcept { value_.fetch_add(by, std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<std::uint64_t> value_{0};
};

class Gauge {
  public:
    void set(std::int64_t v) noexcept { value_.store(v, std::memory_order_relaxed); }
    void add(std::int64_t by) noexcept { value_.fetch_add(by, std::memory_order_relaxed); }
    [[nodiscard]] std::int64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<std::int64_t> value_{0};
};

// Seconds, with upper bounds from 50 microseconds to 60 seconds.
class Histogram {
  public:
    static const std::vector<double>& upper_bounds_seconds();
    Histogram();
    void observe_seconds(double seconds) noexcept;
    struct View {
        std::vector<std::uint64_t> cumulative;  // one per upper bound; the count is the +Inf bucket
        std::uint64_t count = 0;
        double sum_seconds = 0;
    };
    [[nodiscard]] View view() const;

  private:
    std::unique_ptr<std::atomic<std::uint64_t>[]> buckets_;
    std::atomic<std::uint64_t> count_{0};
    std::atomic<std::uint64_t> sum_microseconds_{0};
};

enum class Kind { counter, gauge, histogram };

struct Sample {
    Labels labels;
    double value = 0;           // counter, gauge
    Histogram::View histogram;  // histogram
};

struct FamilyView {
    std::string name;
    std::string help;
    Kind kind = Kind::counter;
    std::vector<Sample> samples;
};

class Registry {
  public:
    // The same name and labels give the same instrument. Takes a lock: do it once, keep the reference.
    Counter& counter(const std::string& name, const std::string& help, Labels labels = {});
    Gauge& gauge(const std::string& name, const std::string& help, Labels labels = {});
    Histogram& histogram(const std::string& name, const std::string& help, Labels labels = {});
    [[nodiscard]] std::vector<FamilyView> collect() const;

  private:
    struct Family {
        std::string help;
        Kind kind = Kind::counter;
        std::map<Labels, std::unique_ptr<Counter>> counters;
        std::map<Labels, std::unique_ptr<Gauge>> gauges;
        std::map<Labels, std::unique_ptr<Histogram>> histograms;
    };
    Family& family(const std::string& name, const std::string& help, Kind kind);

    mutable std::mutex mutex_;
    std::map<std::string, Family> families_;
};

}  // namespace pgporter::metrics
