// Report: sums up a finished run as JSON: transactions, failures, latencies by phase and tenant, the longest waits. Pure.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/traffic/client.hpp"
#include "tests/support/traffic/history.hpp"

namespace pgporter::traffic {

struct Phase {
    std::string name;
    std::int64_t start_us = 0;
    std::int64_t end_us = 0;
};

// A span of time whose longest waits are wanted, client by client.
struct Window {
    std::string name;
    std::int64_t from_us = 0;
    std::int64_t to_us = 0;
};

struct RunResult {
    History history;
    std::vector<Phase> phases;
    std::vector<Window> windows;
    std::string focus;  // the tenant that the others are told apart from; may be empty
    std::size_t clients = 0;
};

[[nodiscard]] boost::json::object report_of(const RunResult& result, const RunState& state);

}  // namespace pgporter::traffic
