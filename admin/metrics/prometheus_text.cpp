#include "admin/metrics/prometheus_text.hpp"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "admin/metrics/process_facts.hpp"

namespace pgporter {
namespace {

prometheus::MetricType type_of(metrics::Kind kind) {
    switch (kind) {
        case metrics::Kind::counter: return prometheus::MetricType::Counter;
        case metrics::Kind::gauge: return prometheus::MetricType::Gauge;
        case metrics::Kind::histogram: return prometheus::MetricType::Histogram;
    }
    return prometheus::MetricType::Untyped;
}

void fill_histogram(const metrics::Histogram::View& view, prometheus::ClientMetric::Histogram& out) {
    const auto& bounds = metrics::Histogram::upper_bounds_seconds();
    out.sample_count = view.count;
    out.sample_sum = view.sum_seconds;
    for (std::size_t i = 0; i < bounds.size() && i < view.cumulative.size(); ++i) {
        out.bucket.push_back({view.cumulative[i], bounds[i]});
    }
    out.bucket.push_back({view.count, std::numeric_limits<double>::infinity()});
}

prometheus::MetricFamily family_of(const metrics::FamilyView& view) {
    prometheus::MetricFamily family;
    family.name = view.name;
    family.help = view.help;
    family.type = type_of(view.kind);
    for (const auto& sample : view.samples) {
        prometheus::ClientMetric metric;
        for (const auto& [name, value] : sample.labels) metric.label.push_back({name, value});
        switch (view.kind) {
            case metrics::Kind::counter: metric.counter.value = sample.value; break;
            case metrics::Kind::gauge: metric.gauge.value = sample.value; break;
            case metrics::Kind::histogram: fill_histogram(sample.histogram, metric.histogram); break;
        }
        family.metric.push_back(std::move(metric));
    }
    return family;
}

metrics::FamilyView one_value(std::string name, std::string help, metrics::Kind kind, double value, metrics::Labels labels = {}) {
    metrics::FamilyView family;
    family.name = std::move(name);
    family.help = std::move(help);
    family.kind = kind;
    metrics::Sample sample;
    sample.labels = std::move(labels);
    sample.value = value;
    family.samples.push_back(std::move(sample));
    return family;
}

std::vector<metrics::FamilyView> process_families() {
    std::vector<metrics::FamilyView> families;
    families.push_back(one_value("pgporter_build_info", "Always 1; the labels say what runs.", metrics::Kind::gauge, 1,
                                 {{"version", PGPORTER_VERSION}, {"compiler", __VERSION__}}));
    const auto add = [&](const char* name, const char* help, metrics::Kind kind, const std::optional<double>& value) {
        if (value) families.push_back(one_value(name, help, kind, *value));
    };
    const auto facts = read_process_facts();
    add("process_start_time_seconds", "When this process started, since 1970.", metrics::Kind::gauge, facts.start_time_seconds);
    add("process_cpu_seconds_total", "CPU time used, user and system.", metrics::Kind::counter, facts.cpu_seconds);
    add("process_resident_memory_bytes", "Resident memory.", metrics::Kind::gauge, facts.resident_memory_bytes);
    add("pgporter_allocated_bytes", "Memory that is allocated and not freed; resident is what the allocator keeps besides.", metrics::Kind::gauge,
        facts.allocated_bytes);
    add("process_open_fds", "Open file descriptors.", metrics::Kind::gauge, facts.open_fds);
    return families;
}

}  // namespace

std::string render_prometheus(const metrics::Registry& registry) {
    std::vector<prometheus::MetricFamily> families;
    for (const auto& view : process_families()) families.push_back(family_of(view));
    for (const auto& view : registry.collect()) families.push_back(family_of(view));
    return prometheus::TextSerializer().Serialize(families);
}

}  // namespace pgporter
