// The metrics page: every instrument of the registry and a few facts about the process, in Prometheus' text format.
// The only folder that knows prometheus-cpp. Any control-plane thread; keeps nothing between calls.
#pragma once

#include <string>

#include "base/metrics.hpp"

namespace pgporter {

// Content-Type of what render_prometheus returns.
inline constexpr const char* prometheus_content_type = "text/plain; version=0.0.4; charset=utf-8";

// Adds pgporter_build_info and process_{start_time_seconds,cpu_seconds_total,resident_memory_bytes,open_fds}.
// A process fact that can't be read is left out rather than reported as zero.
[[nodiscard]] std::string render_prometheus(const metrics::Registry& registry);

}  // namespace pgporter
