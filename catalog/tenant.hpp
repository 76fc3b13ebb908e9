// Tenant, Placement, Cluster, Database, User: what the catalog knows. Plain values, immutable once inside a Snapshot; any thread.
// The rows behind them are in PostgreSQL (schema pgporter, catalog/migrations.cpp); this header knows no SQL.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.hpp"
#include "catalog/tenant_limits.hpp"

namespace pgporter {

enum class PlacementKind {
    rows,     // own rows in shared tables: row-level security reads the tenant's key from a setting, or from the role
    schema,   // own schema in a shared database
    database  // own database (the schema keeps its name there)
};

// How the tenants of a shared database are kept apart there.
enum class Isolation {
    app,   // the application's own role; pgporter guarantees the context
    role,  // SET ROLE to the tenant's role
    login  // server connections log in as the tenant's role
};

struct Placement {
    PlacementKind kind = PlacementKind::schema;
    std::string cluster;
    std::string database;
    std::string schema;  // may be empty for `database`: then the server's default search_path holds; always empty for `rows`
    friend bool operator==(const Placement&, const Placement&) = default;
};

enum class TenantState { active, read_only, suspended };
enum class PoolMode { transaction, session };

struct Tenant {
    TenantId id;
    std::string name;  // [a-z0-9_-], 1 to 63 characters, starts with a letter or digit
    Placement placement;
    std::string key;  // how SQL names it: the value of a tenant setting and of the tenant column; empty: its name (tenant_key())
    TenantState state = TenantState::active;
    PoolMode pool_mode = PoolMode::transaction;
    Epoch epoch;                                                // every change of placement raises it
    std::string role;                                           // what isolation `role` and `login` use; with `app` too, SET ROLE if given
    std::vector<std::string> shared_schemas{"public"};          // follow the tenant's schema in search_path
    std::uint32_t server_connections_max = 0;                   // leases at once; 0: only the database's and cluster's caps
    std::uint32_t sessions_max = 0;                             // client connections at once; 0: no cap of its own
    TenantLimits limits;
    std::vector<std::pair<std::string, std::string>> settings;  // run-time parameters of every session of this tenant
    std::vector<std::string> domains;            // host names (TLS SNI) that name it, in lower case; one tenant each
    std::vector<std::string> allowed_addresses;  // CIDR blocks that its clients may come from; empty: all
    friend bool operator==(const Tenant&, const Tenant&) = default;
};
using TenantPtr = std::shared_ptr<const Tenant>;

enum class ServerTls { disable, require, verify_ca, verify_full };

struct Cluster {
    std::string name;
    std::string host;  // name, address, or directory of a Unix-domain socket (starts with '/')
    std::uint16_t port = 5432;
    ServerTls tls = ServerTls::disable;
    std::string tls_ca_file;                     // PEM; needed by verify_ca and verify_full
    std::uint32_t server_connections_max = 100;  // of the data path; the mover's few come on top
    friend bool operator==(const Cluster&, const Cluster&) = default;
};

// A database that somebody lives in. Databases without an entry of their own have only their cluster's cap.
struct Database {
    std::string cluster;
    std::string name;
    std::uint32_t server_connections_max = 0;  // 0: only the cluster's cap
    Isolation isolation = Isolation::app;
    std::string tenant_setting;  // the run-time parameter that row-level security reads (app.tenant ..); set for every tenant there; empty: none
    std::string tenant_column;   // the column that says whose a row is, for `pgporter doctor`; empty: none
    std::uint32_t server_connections_min = 0;  // of the cluster's, kept free for whoever works here, besides those of its tenants
    friend bool operator==(const Database&, const Database&) = default;
};

// Somebody who may log in to pgporter, and the tenants that this user may speak for.
struct User {
    std::string name;
    std::string scram_verifier;  // "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"; empty: see auth query
    bool all_tenants = false;
    std::vector<std::string> tenants;  // sorted; ignored when all_tenants
    friend bool operator==(const User&, const User&) = default;
};

[[nodiscard]] std::string_view to_text(PlacementKind kind);
[[nodiscard]] std::string_view to_text(TenantState state);
[[nodiscard]] std::string_view to_text(PoolMode mode);
[[nodiscard]] std::string_view to_text(ServerTls tls);
[[nodiscard]] std::string_view to_text(Isolation isolation);
[[nodiscard]] std::optional<Isolation> isolation_from(std::string_view text);
[[nodiscard]] std::optional<PlacementKind> placement_kind_from(std::string_view text);
[[nodiscard]] std::optional<TenantState> tenant_state_from(std::string_view text);
[[nodiscard]] std::optional<PoolMode> pool_mode_from(std::string_view text);
[[nodiscard]] std::optional<ServerTls> server_tls_from(std::string_view text);

// The tenant's key: what SQL calls it.
[[nodiscard]] const std::string& tenant_key(const Tenant& tenant);

// True for a name a tenant may have (see Tenant::name).
[[nodiscard]] bool is_tenant_name(std::string_view name);

// The search_path of a tenant's sessions: its schema, then its shared schemas, each quoted as an identifier where needed.
// Empty (the server's own path holds) when the placement names no schema; for rows unless shared schemas other than public are named.
[[nodiscard]] std::string search_path_of(const Tenant& tenant);

}  // namespace pgporter
