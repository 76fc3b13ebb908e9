// Deletes a tenant's rows from tables that others have rows in too: in batches, at most half of the time, without triggers and foreign
// keys. Every step may be repeated. On the move's thread.
#pragma once

#include <vector>

#include "admin/mover/interrupt.hpp"
#include "admin/mover/move_servers.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

// Of marked tables (mark_shared_tables) those with a tenant column. `applies`: the artefact that the session's fence lets through.
[[nodiscard]] Result<void> delete_tenant_rows(ServerSession& shared, const std::vector<SourceTable>& tables, const std::string& applies,
                                              const Interrupt& interrupt);

// What a cleanup record of rows in shared tables says: whose they are.
[[nodiscard]] std::string tenant_rows_name(const SharedRows& rows);
// Undoes what a demote has copied into the shared tables. `servers` face that way.
[[nodiscard]] Result<void> undo_tenant_rows(const std::string& name, const MoveServers& servers);

}  // namespace pgporter
