// Preflight: looks at source and target before a move and names everything that would make it fail, with the remedy.
// What it tries, it rolls back. Blocking, any control-plane thread. It must not: stop at the first blocker; an operator
// wants to see them all.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "admin/mover/move_servers.hpp"
#include "admin/mover/mover.hpp"

namespace pgporter {

// The code of warnings that say why the move can't be rolled back.
inline constexpr const char* no_way_back = "no_way_back";

// MoveServers::read_shared_schemas() was called.
[[nodiscard]] Result<PreflightReport> run_preflight(const MoveServers& servers);

// A tenant that is rows is kept apart by its database's isolation and tenant_setting: the target database's entry in the
// catalog must say the same, if there is one; else the move makes one.
void check_target_entry(const Config& config, const Snapshot& snapshot, const Tenant& tenant, const Placement& target,
                        PreflightReport& report);

// The parts, each in a file of its own.
[[nodiscard]] Result<void> check_source_server(ServerSession& source, const MoveServers& servers,
                                               PreflightReport& report);
[[nodiscard]] Result<void> check_source_schema(ServerSession& source, const MoveServers& servers,
                                               PreflightReport& report);
[[nodiscard]] Result<void> check_way_back(ServerSession& source, const MoveServers& servers, PreflightReport& report);
[[nodiscard]] Result<void> check_shared_rows(ServerSession& source, const MoveServers& servers,
                                             PreflightReport& report);
// A demote into shared tables: whether they are there and fit, and have room for the tenant's rows.
[[nodiscard]] Result<void> check_shared_target(ServerSession& source, const MoveServers& servers, PreflightReport& report);
[[nodiscard]] Result<void> check_target(ServerSession& source, const MoveServers& servers, PreflightReport& report);

// An extension that the schema's objects need.
struct NeededExtension {
    std::string name;
    std::string version;
    std::string schema;
};
[[nodiscard]] Result<std::vector<NeededExtension>> read_needed_extensions(ServerSession& source,
                                                                          const SchemaList& schemas);
// A foreign key between rows of the tenant and another's, on the tenant's side or on the other; empty: none.
[[nodiscard]] Result<std::vector<std::string>> read_references_between_tenants(ServerSession& source, const std::string& tenant_column,
                                                                               const std::vector<SourceTable>& tables);
// Objects outside the schema that would break without it.
[[nodiscard]] Result<std::vector<std::string>> read_outside_users(ServerSession& source, const SchemaList& schemas);
// Owners and grantees of what is in the schema.
[[nodiscard]] Result<std::vector<std::string>> read_needed_roles(ServerSession& source, const SchemaList& schemas);

}  // namespace pgporter
