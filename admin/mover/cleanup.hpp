// Cleanup: undoes what a move made, by its records, newest first. Every step may be repeated and finds what is gone
// already gone, so that any process can finish what another began. Owned by the move's thread.
#pragma once

#include <functional>

#include "admin/mover/move_servers.hpp"
#include "catalog/journal.hpp"

namespace pgporter {

// Connections of this move on this server, ours excepted: what a dead process, or an interrupted step, left behind may
// still be at work.
[[nodiscard]] Result<void> end_other_sessions(ServerSession& session, const MoveServers& servers);

// The database that the move made is the tenant's for good: takes the mark away by which it would be dropped.
[[nodiscard]] Result<void> keep_database(const CleanupRecord& record, const MoveServers& servers);

// Undoes one artefact. ok: it is gone.
[[nodiscard]] Result<void> undo(const CleanupRecord& record, const MoveServers& servers);

// Undoes all open records for which `wanted` says so, marks each done. The first failure ends it; what is done stays
// done.
[[nodiscard]] Result<void> undo_records(MoveJournal& journal, const MoveServers& servers,
                                        const std::function<bool(const CleanupRecord&)>& wanted);

}  // namespace pgporter
