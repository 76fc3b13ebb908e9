#include "base/metrics.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace pgporter::metrics {

const std::vector<double>& Histogram::upper_bounds_seconds() {
    static const std::vector<double> bounds{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                            0.05,    0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30, 60};
    return bounds;
}

Histogram::Histogram() : buckets_(std::make_unique<std::atomic<std::uint64_t>[]>(upper_bounds_seconds().size())) {}

void Histogram::observe_seconds(double seconds) noexcept {
    const auto& bounds = upper_bounds_seconds();
    const auto at = std::lower_bound(bounds.begin(), bounds.end(), seconds);
    if (at != bounds.end()) buckets_[static_cast<std::size_t>(at - bounds.begin())].fetch_add(1, std::memory_order_relaxed);
    count_.fetch_add(1, std::memory_order_relaxed);
    sum_microseconds_.fetch_add(static_cast<std::uint64_t>(std::max(0.0, seconds) * 1e6), std::memory_order_relaxed);
}

Histogram::View Histogram::view() const {
    View view;
    std::uint64_t running = 0;
    for (std::size_t i = 0; i < upper_bounds_seconds().size(); ++i) {
        running += buckets_[i].load(std::memory_order_relaxed);
        view.cumulative.push_back(running);
    }
    view.count = std::max(running, count_.load(std::memory_order_relaxed));
    view.sum_seconds = static_cast<double>(sum_microseconds_.load(std::memory_order_relaxed)) / 1e6;
    return view;
}

Registry::Family& Registry::family(const std::string& name, const std::string& help, Kind kind) {
    auto [at, inserted] = families_.try_emplace(name);
    if (inserted) {
        at->second.help = help;
        at->second.kind = kind;
    }
    PP_ASSERT(at->second.kind == kind);
    return at->second;
}

Counter& Registry::counter(const std::string& name, const std::string& help, Labels labels) {
    const std::lock_guard lock(mutex_);
    auto& slot = family(name, help, Kind::counter).counters[std::move(labels)];
    if (!slot) slot = std::make_unique<Counter>();
    return *slot;
}

Gauge& Registry::gauge(const std::string& name, const std::string& help, Labels labels) {
    const std::lock_guard lock(mutex_);
    auto& slot = family(name, help, Kind::gauge).gauges[std::move(labels)];
    if (!slot) slot = std::make_unique<Gauge>();
    return *slot;
}

Histogram& Registry::histogram(const std::string& name, const std::string& help, Labels labels) {
    const std::lock_guard lock(mutex_);
    auto& slot = family(name, help, Kind::histogram).histograms[std::move(labels)];
    if (!slot) slot = std::make_unique<Histogram>();
    return *slot;
}

std::vector<FamilyView> Registry::collect() const {
    const std::lock_guard lock(mutex_);
    std::vector<FamilyView> views;
    for (const auto& [name, family] : families_) {
        FamilyView view{name, family.help, family.kind, {}};
        for (const auto& [labels, c] : family.counters) view.samples.push_back({labels, static_cast<double>(c->value()), {}});
        for (const auto& [labels, g] : family.gauges) view.samples.push_back({labels, static_cast<double>(g->value()), {}});
        for (const auto& [labels, h] : family.histograms) view.samples.push_back({labels, 0, h->view()});
        views.push_back(std::move(view));
    }
    return views;
}

}  // namespace pgporter::metrics
