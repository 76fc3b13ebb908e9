// Run: starts the clients, listens to what is said on standard input, ends them in time, and writes history and report.
// Standard input, a line a command: `phase NAME`, `window NAME FROM_US TO_US` (Unix microseconds), `status` (answered by one line of
// JSON), `stop`. End of input is not an end of the run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace pgporter::traffic {

struct TenantShare {
    std::string name;
    std::size_t clients = 1;
};

struct RunOptions {
    std::string dsn;                  // {tenant} stands for the client's tenant
    std::string switching_dsn;        // of clients that name their tenants in SQL
    std::vector<TenantShare> tenants;
    std::size_t clients = 0;           // 0: the sum of the tenants' clients
    std::size_t switching_clients = 0;  // come on top
    double seconds = 0;                // 0: until SIGTERM, SIGINT or `stop`
    double rate = 20;                  // transactions a second and client; 0: as fast as it gets
    std::uint64_t seed = 1;
    std::string focus;
    std::string history_file;
    std::string report_file;  // besides standard output
};

// Lines of `name [clients]`; # begins a comment.
[[nodiscard]] Result<std::vector<TenantShare>> read_tenants(const std::string& path);

// Prints the report as one line of JSON. The value is true if nothing failed and no answer was wrong.
[[nodiscard]] Result<bool> run_traffic(const RunOptions& options);

}  // namespace pgporter::traffic
