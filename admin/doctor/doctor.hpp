// The doctor of a shared database: what in it would let one tenant see another's data, and whether pgporter's own data path keeps them
// apart. Reads only. Blocking, over libpq; control-plane threads only. It must not: change anything in the database it looks at, or stop at the
// first finding.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "catalog/config.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

enum class Severity { blocker, warning };

struct Finding {
    Severity severity = Severity::blocker;
    std::string code;    // stable, e.g. "rls_disabled"
    std::string object;  // what it is about, e.g. "public.orders"
    std::string reason;
    std::string remedy;
};

struct LeakTrial {            // one way of naming the tenant
    std::string way;          // "login", "sql"; "none": no tenant is named, and nothing may be seen
    bool ran = false;         // false: `note` says why not
    std::string note;
    std::uint32_t rounds = 0;
    std::uint32_t tables_read = 0;      // with the tenant column, by both tenants; the first few tables are tried
    std::uint32_t shared_backends = 0;  // server connections that served both tenants; 0: the trial proves less
    std::vector<std::string> failures;
};

struct DoctorReport {
    std::string cluster;
    std::string database;
    Isolation isolation = Isolation::app;
    std::size_t tenants = 0;
    std::size_t tables = 0;          // with the tenant column
    std::vector<Finding> findings;   // blockers first
    std::vector<LeakTrial> trials;   // empty: no self-test was asked for
    [[nodiscard]] bool ok() const;   // no blocker, and no trial failed
};

struct DoctorRequest {
    std::string cluster;
    std::string database;
    std::vector<std::string> users;  // the application's logins; empty: the catalog's users that the server knows
    bool self_test = false;
    std::string self_test_user;      // logs in to pgporter; empty: the first of `users`
    Secret self_test_password;       // empty: the one that server_logins has for this user
};

// not_found: the catalog has no such database. unavailable: it can't be reached.
[[nodiscard]] Result<DoctorReport> examine_database(const Config& config, const Snapshot& snapshot, const DoctorRequest& request);

}  // namespace pgporter
