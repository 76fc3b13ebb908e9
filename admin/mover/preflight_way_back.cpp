// What a move needs for its way back, seen before it begins. What is missing is a warning, not a blocker: the move can do
// without, and then says so from `opened` on.
#include <set>

#include "admin/mover/id_blocks.hpp"
#include "admin/mover/preflight.hpp"

namespace pgporter {
namespace {

void warn(PreflightReport& report, std::string object, std::string message, std::string remedy) {
    report.warnings.push_back({no_way_back, std::move(object), "no rollback after the flip: " + std::move(message),
                               std::move(remedy)});
}

Result<void> check_target_stream(ServerSession& server, const MoveServers& servers, PreflightReport& report) {
    auto rows = server.exec(
        "SELECT current_setting('wal_level'), r.rolreplication OR r.rolsuper, "
        "current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots), "
        "current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication) "
        "FROM pg_roles r WHERE r.rolname = current_user");
    if (!rows) return rows.error();
    if (rows->empty()) return fail(ErrorKind::internal, "the mover's role isn't in pg_roles");
    const auto& user = servers.config().mover.user;
    if (rows->text(0, 0) != "logical") {
        warn(report, "wal_level", "the target server's wal_level is " + rows->string(0, 0) + ", not logical",
             "set wal_level = logical on the target server and restart it");
    }
    if (!rows->flag(0, 1)) {
        warn(report, user, "the mover's role may not replicate on the target server",
             "ALTER ROLE " + quote_ident(user) + " REPLICATION on the target server");
    }
    // One for the stream, one for the verifying snapshots; where both are one server, the move there needs its own.
    auto identity = server.exec("SELECT system_identifier::text FROM pg_control_system()");
    auto source = servers.source();
    if (!source) return source.error();
    auto other = (*source)->exec("SELECT system_identifier::text FROM pg_control_system()");
    const bool same = identity && other && identity->text(0, 0) == other->text(0, 0);
    const std::int64_t needed = same ? 3 : 2;
    if (rows->number(0, 2) < needed) {
        warn(report, "max_replication_slots", "the target server hasn't enough free replication slots",
             "raise max_replication_slots there, or complete moves that are still open");
    }
    if (rows->number(0, 3) < needed) {
        warn(report, "max_wal_senders", "the target server hasn't enough free WAL senders",
             "raise max_wal_senders there, or complete moves that are still open");
    }
    return {};
}

// What the tenant writes in its own database must not meet others' rows when it comes back.
Result<void> check_shared_indexes(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    auto unsafe = find_unsafe_indexes(source, servers);
    if (!unsafe) return unsafe.error();
    for (const auto& index : *unsafe) {
        warn(report, index,
             "the unique index " + index + " doesn't contain the tenant column, and its values are neither uuids nor drawn from a sequence that has "
             "room: what the tenant writes in its own database could be what another tenant has",
             "add the tenant column to the index, if the move is to have a way back");
    }
    return {};
}

// The way back of a demote leads from all shared tables.
Result<void> check_missing_tables(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    auto shared = servers.target();
    if (!shared) return {};  // said elsewhere
    auto schemas = read_shared_schemas(**shared, *servers.rows());
    if (!schemas) return schemas.error();
    const auto* query =
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1::text[]) "
        "AND c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";
    auto theirs = (*shared)->exec(query, {schemas->as_array()});
    if (!theirs) return theirs.error();
    auto own = source.exec(query, {schemas->as_array()});
    if (!own) return own.error();
    std::set<std::string> known;
    for (int row = 0; row < own->count(); ++row) known.insert(own->string(row, 0));
    for (int row = 0; row < theirs->count(); ++row) {
        if (known.contains(theirs->string(row, 0))) continue;
        warn(report, theirs->string(row, 0), "the tenant's own database has no table " + theirs->string(row, 0), "make it there, too");
    }
    return {};
}

}  // namespace

Result<void> check_way_back(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    if (servers.shared_source() && !servers.rows()->column.empty()) PP_TRY(check_shared_indexes(source, servers, report));
    if (servers.shared_target() && report.blockers.empty()) PP_TRY(check_missing_tables(source, servers, report));
    auto server = servers.target_server();
    if (!server) return server.error();
    PP_TRY(check_target_stream(**server, servers, report));
    if (auto stream = servers.target_server_replication(); !stream) {
        warn(report, servers.target_placement().cluster,
             "the target server refuses a replication connection: " + stream.error().message,
             "let the mover's role connect for replication (pg_hba.conf there)");
    }
    const auto& user = servers.config().mover.user;
    auto tried = source.exec("BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK");
    if (tried) return {};
    PP_TRY(source.exec("ROLLBACK"));
    if (tried.error().kind != ErrorKind::forbidden) return tried.error();
    warn(report, user, "the mover's role may not set session_replication_role on the source server",
         source.server_version() >= 150000 ? "GRANT SET ON PARAMETER session_replication_role TO " + quote_ident(user) + " there"
                                           : "make it a superuser there");
    return {};
}

}  // namespace pgporter
