// RowFence: the fence of a tenant that is rows of shared tables. Row triggers on each shared table, ALWAYS enabled, look
// at the tenant's rows only; they lock the one row of the move's gate table FOR SHARE (never FOR KEY SHARE: old snapshots
// would slip through) and refuse when it says `fenced`. The fence's transaction updates that row: it waits for every
// transaction that wrote a row of the tenant, prepared ones too, and for nobody else. Installed late, since each write of
// the tenant pays for it. AFTER triggers: they see what was really stored, whatever other triggers made of it.
//
// The gate's row says whose rows the move is about until its end: `complete` deletes these, whatever the catalog says by
// then. Owned by the move's thread. It must not: lock more than one shared table at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "admin/mover/move_servers.hpp"

namespace pgporter {

// Schema, function and gate on the source. The cleanup records must exist before.
[[nodiscard]] Result<void> create_row_fence(ServerSession& source, const MoveServers& servers);
// One transaction per table; what is there already stays. Waits for a lock at most lock_timeout at once, with growing
// pauses between.
[[nodiscard]] Result<void> install_row_fence(ServerSession& source, const MoveServers& servers, const std::vector<SourceTable>& tables);
// The statement that closes the gate, inside the fence's transaction; it fails with the drift's SQLSTATE when the triggers
// aren't those of now.
[[nodiscard]] Result<std::string> close_gate_statement(ServerSession& source, const MoveServers& servers);
// Writes go on at the source. One attempt, at most lock_timeout.
[[nodiscard]] std::string open_gate_statement(const MoveServers& servers);
[[nodiscard]] Result<void> open_gate(ServerSession& source, const MoveServers& servers);

struct Gate {
    bool fenced = false;
    bool emptied = false;  // `complete` has deleted the tenant's rows: then the gate may open before it goes
    std::string tenant_column;
    std::string tenant_key;
};
[[nodiscard]] Result<void> note_emptied(ServerSession& source, const MoveServers& servers);
[[nodiscard]] Result<std::optional<Gate>> read_gate(ServerSession& source, const std::string& artefact);  // none: there is no gate

// Who could still write the tenant's rows, if the fence weren't there; empty: nobody.
[[nodiscard]] Result<std::string> find_late_writers(ServerSession& source, const MoveServers& servers);
// What stays of a completed move, when its triggers are gone.
[[nodiscard]] Result<void> leave_gate(ServerSession& source, const MoveServers& servers);
// The tenant lives here again: such gates of its former moves go.
[[nodiscard]] Result<void> drop_left_gates(ServerSession& shared, const MoveServers& servers);

// The ordinary tables that have the fence's row triggers, partitions too: those with rows of the tenant.
[[nodiscard]] Result<std::vector<std::uint32_t>> read_fenced_tables(ServerSession& source, const MoveServers& servers);

}  // namespace pgporter
