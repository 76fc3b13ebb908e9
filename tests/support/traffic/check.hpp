// Check: compares what clients were told (a history) with what the databases hold, and a moved tenant's rows with its source's.
// Blocking; changes nothing.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "tests/support/traffic/history.hpp"

namespace pgporter::traffic {

struct CheckOptions {
    std::string dsn;                             // {tenant} stands for the tenant; rows are looked for in the schema of its name
    std::map<std::string, std::string> dsn_of;   // tenants that live elsewhere
    std::string history_file;
};

// What a ledger says against a history; zero everywhere is a pass, except for `confirmed` and `unknown_present`.
struct LedgerVerdict {
    std::uint64_t confirmed = 0;        // acknowledged, and there once
    std::uint64_t lost = 0;             // acknowledged, and not there
    std::uint64_t doubled = 0;          // there more than once
    std::uint64_t phantom = 0;          // there, but refused, rolled back or never sent
    std::uint64_t disordered = 0;       // a client's later write has the earlier entry
    std::uint64_t unknown_present = 0;  // nobody was told, and it is there: allowed
    std::uint64_t wrong_tenant = 0;     // another tenant's entry
};

struct LedgerEntry {
    std::int64_t client = 0;
    std::int64_t seq = 0;
    std::int64_t entry = 0;
    std::string tenant;
};

// Pure. `records` are one tenant's; `entries` all that its ledger holds of the clients in them, ordered by client, seq and entry.
[[nodiscard]] LedgerVerdict judge(const std::string& tenant, const std::vector<Record>& records,
                                  const std::vector<LedgerEntry>& entries);

// Prints one line of JSON; true if nothing is lost, doubled, phantom, disordered, inconsistent or somebody else's.
[[nodiscard]] Result<bool> check_history(const CheckOptions& options);

struct CompareOptions {
    std::string source_dsn;  // where the tenant lived: what is there stands still since the cutover
    std::string target_dsn;
    std::string tenant;
};

// Every row of the source is on the target, the same or changed later, or known to be deleted. Prints one line of JSON.
[[nodiscard]] Result<bool> compare_tenant(const CompareOptions& options);

}  // namespace pgporter::traffic
