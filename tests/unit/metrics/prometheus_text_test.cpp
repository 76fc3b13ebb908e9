#include <doctest/doctest.h>

#include <string>

#include "admin/metrics/process_facts.hpp"
#include "admin/metrics/prometheus_text.hpp"

using namespace pgporter;

namespace {
bool has(const std::string& page, const std::string& text) { return page.find(text) != std::string::npos; }
}  // namespace

TEST_CASE("counters and gauges are rendered with help, type, labels and value") {
    metrics::Registry registry;
    registry.counter("pgporter_things_total", "Things.", {{"reason", "b"}}).inc(7);
    registry.gauge("pgporter_open", "Open.").set(-3);
    const auto page = render_prometheus(registry);
    CHECK(has(page, "# HELP pgporter_things_total Things.\n"));
    CHECK(has(page, "# TYPE pgporter_things_total counter\n"));
    CHECK(has(page, "pgporter_things_total{reason=\"b\"} 7\n"));
    CHECK(has(page, "# TYPE pgporter_open gauge\n"));
    CHECK(has(page, "pgporter_open -3\n"));
}

TEST_CASE("a histogram has cumulative buckets that end with +Inf, a sum and a count") {
    metrics::Registry registry;
    auto& histogram = registry.histogram("pgporter_wait_seconds", "Wait.");
    histogram.observe_seconds(0.00001);
    histogram.observe_seconds(1e6);
    const auto page = render_prometheus(registry);
    CHECK(has(page, "# TYPE pgporter_wait_seconds histogram\n"));
    CHECK(has(page, "pgporter_wait_seconds_bucket{le=\"+Inf\"} 2\n"));
    CHECK(has(page, "pgporter_wait_seconds_count 2\n"));
    CHECK(has(page, "} 1\n"));
    CHECK_FALSE(has(page, "le=\"+Inf\"} 1\n"));
}

TEST_CASE("label values are escaped") {
    metrics::Registry registry;
    registry.counter("pgporter_odd_total", "Odd.", {{"name", "a\"b\\c\nd"}}).inc();
    CHECK(has(render_prometheus(registry), "pgporter_odd_total{name=\"a\\\"b\\\\c\\nd\"} 1\n"));
}

TEST_CASE("the build and the process are described") {
    metrics::Registry registry;
    const auto page = render_prometheus(registry);
    CHECK(has(page, std::string("pgporter_build_info{version=\"") + PGPORTER_VERSION + "\",compiler=\""));
    CHECK(has(page, "# TYPE process_cpu_seconds_total counter\n"));
    CHECK(has(page, "\nprocess_start_time_seconds "));
    CHECK(has(page, "\nprocess_resident_memory_bytes "));
    CHECK(has(page, "\nprocess_open_fds "));
    CHECK(has(page, "\npgporter_allocated_bytes "));
    const auto facts = read_process_facts();
    CHECK(facts.start_time_seconds.value() > 1e9);
    CHECK(facts.resident_memory_bytes.value() > 100'000);
    CHECK(facts.open_fds.value() >= 3);
}

TEST_CASE("a command's name with spaces and brackets doesn't shift the fields of /proc/self/stat") {
    const std::string tail = " S 1 2 3 4 5 6 7 8 9 10 111 222 13 14 15 16 17 18 333 20 444 22\n";
    const auto stat = parse_process_stat("12 (a ) b (c) 7)" + tail);
    REQUIRE(stat);
    CHECK(stat->user_ticks == 111);
    CHECK(stat->system_ticks == 222);
    CHECK(stat->start_ticks == 333);
    CHECK(stat->resident_pages == 444);
    CHECK_FALSE(parse_process_stat("12 no brackets"));
    CHECK_FALSE(parse_process_stat("12 (x) S 1 2"));
    CHECK_FALSE(parse_process_stat("12 (x) S 1 2 3 4 5 6 7 8 9 10 x 222 13 14 15 16 17 18 333 20 444 22"));
}
