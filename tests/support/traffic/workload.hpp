// Workload: runs one transaction of an application on one connection and says what the client was told. Owned by one client thread.
// It never retries. Every row that comes back must be the tenant's own; every read must see what its client wrote before.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/traffic/database.hpp"
#include "tests/support/traffic/history.hpp"

namespace pgporter::traffic {

// What a client knows of one tenant's data: how many rows were loaded, and what this client wrote there.
struct TenantView {
    std::string name;
    std::int64_t companies = 0;  // 0: not looked yet
    std::int64_t users = 0;
    std::int64_t leads = 0;
    std::int64_t orders = 0;
    std::int64_t seq_used = 0;          // the last number used, whatever came of it
    std::int64_t seq_acknowledged = 0;  // the last one known to be committed
};

enum class Violation { wrong_tenant, stale_read, wrong_answer };

struct Attempt {
    Outcome outcome = Outcome::acknowledged;
    std::int64_t seq = 0;
    std::optional<Error> error{};
    std::vector<Violation> violations{};
};

class Workload {
  public:
    Workload(std::int64_t client, std::uint64_t seed) : client_(client), random_(seed) {}

    // Counts the tenant's rows, once; the transactions pick among them.
    [[nodiscard]] Result<void> look_around(Database& database, TenantView& tenant);
    [[nodiscard]] Kind choose();
    [[nodiscard]] Attempt run(Database& database, TenantView& tenant, Kind kind);
    [[nodiscard]] std::int64_t pick(std::int64_t from, std::int64_t to);

  private:
    [[nodiscard]] Attempt read(Database& database, TenantView& tenant, Kind kind);
    [[nodiscard]] Attempt read_own(Database& database, const TenantView& tenant);
    [[nodiscard]] Attempt write_one_statement(Database& database, TenantView& tenant, Kind kind);
    [[nodiscard]] Attempt write_batch(Database& database, TenantView& tenant);
    [[nodiscard]] Attempt write_transaction(Database& database, TenantView& tenant, Kind kind);
    [[nodiscard]] Result<void> write_order(Database& database, TenantView& tenant, Attempt& attempt);
    [[nodiscard]] Result<void> write_lead(Database& database, TenantView& tenant, Attempt& attempt);
    [[nodiscard]] Result<void> write_ledger(Database& database, TenantView& tenant, Attempt& attempt);
    [[nodiscard]] std::string ledger_sql(const TenantView& tenant, std::int64_t seq);
    void check_tenant(const Rows& rows, const TenantView& tenant, Attempt& attempt);

    std::int64_t client_;
    std::mt19937_64 random_;
};

}  // namespace pgporter::traffic
