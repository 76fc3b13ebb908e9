#include "admin/mover/cleanup.hpp"

#include "admin/mover/fence.hpp"
#include "admin/mover/move_names.hpp"
#include "admin/mover/row_deletion.hpp"

namespace pgporter {
namespace {

constexpr int lock_attempts_max = 600;
constexpr std::chrono::seconds slot_release_timeout{15};

// A slot can be dropped when the server process that sends from it has ended. It is ours: telling it to end is no harm.
Result<void> drop_slot(ServerSession& source, const MoveServers& servers, const std::string& name) {
    const auto deadline = after(slot_release_timeout);
    for (;;) {
        auto rows = source.exec(
            "SELECT active_pid, pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1",
            {name});
        if (!rows) return rows.error();
        if (rows->empty()) return {};
        if (rows->is_null(0, 0)) {
            auto dropped = source.exec("SELECT pg_drop_replication_slot($1)", {name});
            if (dropped) return {};
            if (dropped.error().sqlstate != "55006" && dropped.error().sqlstate != "42704") return dropped.error();
        }
        if (passed(deadline)) return fail(ErrorKind::timeout, "the replication slot is still in use");
        const auto ends = servers.interrupt().fds();
        std::array<pollfd, 2> entries{ends[0], ends[1]};
        ::poll(entries.data(), entries.size(), 20);
        if (servers.interrupt().heard()) return servers.interrupt().error();
    }
}

Result<void> drop_with_locks(ServerSession& session, const MoveServers& servers, const std::string& statement) {
    return retry_locks(servers.interrupt(), lock_attempts_max,
                       [&] { return locked_transaction(session, servers.config().mover.lock_timeout_ms, statement); });
}

Result<bool> database_exists(ServerSession& server, const std::string& name) {
    auto rows = server.exec("SELECT 1 FROM pg_database WHERE datname = $1", {name});
    if (!rows) return rows.error();
    return !rows->empty();
}

Result<void> undo_on_source(const CleanupRecord& record, const MoveServers& servers) {
    if (servers.way() == Way::back) {
        // The move's target, which may be gone.
        auto server = servers.source_server();
        if (!server) return server.error();
        auto exists = database_exists(**server, record.database);
        if (!exists) return exists.error();
        if (!*exists) return {};
    }
    auto session = servers.source();
    if (!session) return session.error();
    auto& source = **session;
    switch (record.kind) {
        case ArtefactKind::replication_slot:
            return drop_slot(source, servers, record.name);
        case ArtefactKind::publication:
            return drop_with_locks(source, servers, "DROP PUBLICATION IF EXISTS " + quote_ident(record.name));
        case ArtefactKind::fence_triggers:
            // Writes go on at once; the triggers themselves may have to wait for readers.
            PP_TRY(disable_fence(source, servers));
            return drop_fence_triggers(source, servers);
        default:
            return drop_with_locks(source, servers, "DROP SCHEMA IF EXISTS " + quote_ident(record.name) + " CASCADE");
    }
}

// Where the record's database bears the mark, or what was to become it still has the name that it was made with.
Result<void> drop_database(ServerSession& server, const CleanupRecord& record) {
    auto ours = server.exec(
        "SELECT datname FROM pg_database WHERE datname = $1 OR (datname = $2 AND shobj_description(oid, 'pg_database') = $3)",
        {record.name, record.database, database_mark(record.name)});
    if (!ours) return ours.error();
    // Our own connections may still be on their way out.
    for (int row = 0; row < ours->count(); ++row)
        PP_TRY(server.exec("DROP DATABASE IF EXISTS " + quote_ident(ours->text(row, 0)) + " WITH (FORCE)"));
    return {};
}

Result<void> undo_on_target(const CleanupRecord& record, const MoveServers& servers) {
    auto server = servers.target_server();
    if (!server) return server.error();
    if (record.kind == ArtefactKind::target_database) return drop_database(**server, record);
    auto exists = database_exists(**server, record.database);
    if (!exists) return exists.error();
    if (!*exists) return {};
    auto target = servers.target();
    if (!target) return target.error();
    return drop_with_locks(**target, servers, "DROP SCHEMA IF EXISTS " + quote_ident(record.name) + " CASCADE");
}

}  // namespace

// They bear the name that ours bears.
Result<void> end_other_sessions(ServerSession& session, const MoveServers& servers) {
    const auto deadline = after(std::chrono::seconds(10));
    for (;;) {
        auto rows = session.exec(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = "
            "session_user "
            "AND application_name = current_setting('application_name')");
        if (!rows) return rows.error();
        if (rows->empty()) return {};
        if (passed(deadline)) return fail(ErrorKind::timeout, "a connection of the move doesn't end");
        const auto ends = servers.interrupt().fds();
        std::array<pollfd, 2> entries{ends[0], ends[1]};
        ::poll(entries.data(), entries.size(), 10);
        if (servers.interrupt().heard()) return servers.interrupt().error();
    }
}

Result<void> keep_database(const CleanupRecord& record, const MoveServers& facing) {
    auto server = facing.facing(Way::there).target_server();
    if (!server) return server.error();
    auto marked = (*server)->exec("SELECT 1 FROM pg_database WHERE datname = $1 AND shobj_description(oid, 'pg_database') = $2",
                                  {record.database, database_mark(record.name)});
    if (!marked) return marked.error();
    if (!marked->empty()) PP_TRY((*server)->exec("COMMENT ON DATABASE " + quote_ident(record.database) + " IS NULL"));
    return {};
}

Result<void> undo(const CleanupRecord& record, const MoveServers& facing) {
    const bool of_target = record.kind == ArtefactKind::target_schema || record.kind == ArtefactKind::target_database ||
                           record.kind == ArtefactKind::target_rows;
    const auto servers = facing.facing(of_target ? Way::there : way_of_artefact(record.name));
    switch (record.kind) {
        case ArtefactKind::replication_slot:
        case ArtefactKind::publication:
        case ArtefactKind::fence_triggers:
        case ArtefactKind::fence_function:
            return undo_on_source(record, servers);
        case ArtefactKind::progress_table:
        case ArtefactKind::target_schema:
        case ArtefactKind::target_database:
            return undo_on_target(record, servers);
        case ArtefactKind::target_rows:
            return undo_tenant_rows(record.name, servers);
        case ArtefactKind::catalog_database:
            return {};  // the journal's: undo_records()
    }
    return {};
}

Result<void> undo_records(MoveJournal& journal, const MoveServers& servers,
                          const std::function<bool(const CleanupRecord&)>& wanted) {
    auto records = journal.open_cleanups(servers.move());
    if (!records) return records.error();
    if (records->empty()) return {};
    auto source = servers.source();
    if (!source) return source.error();
    PP_TRY(end_other_sessions(**source, servers));
    // Writes go on at once, even if the target is away.
    for (const auto& record : *records) {
        if (record.kind == ArtefactKind::fence_triggers && wanted(record)) PP_TRY(disable_fence(**source, servers));
    }
    auto target = servers.target_server();
    if (!target) return target.error();
    PP_TRY(end_other_sessions(**target, servers));
    for (const auto& record : *records) {
        if (!wanted(record)) continue;
        if (record.kind == ArtefactKind::catalog_database) PP_TRY(journal.forget_target_database(record.move));
        PP_TRY(undo(record, servers));
        PP_TRY(journal.cleanup_done(record.id));
    }
    return {};
}

}  // namespace pgporter
