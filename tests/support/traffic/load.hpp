// Load: makes tenants: one schema each, with the tables of schema.sql and rows that the server itself generates. Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "tests/support/traffic/run.hpp"

namespace pgporter::traffic {

struct LoadOptions {
    std::string dsn;  // of the database itself, not through a proxy; {tenant} may appear
    std::vector<TenantShare> tenants;
    std::uint64_t rows = 300;        // of each tenant, all tables together, about
    std::string large;               // this tenant gets more
    std::uint64_t large_rows = 300'000;
};

// Refuses a tenant whose schema is there already. Prints one line of JSON: rows by tenant.
[[nodiscard]] Result<void> load_tenants(const LoadOptions& options);

}  // namespace pgporter::traffic
