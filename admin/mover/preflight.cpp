#include "admin/mover/preflight.hpp"

#include "admin/mover/definitions.hpp"

namespace pgporter {
namespace {

constexpr int oldest_version = 140000;

void block(PreflightReport& report, std::string code, std::string object, std::string message, std::string remedy) {
    report.blockers.push_back({std::move(code), std::move(object), std::move(message), std::move(remedy)});
}

void check_tools(const MoveServers& servers, int source_version, PreflightReport& report) {
    const auto& mover = servers.config().mover;
    for (const auto& program : {mover.pg_dump, mover.pg_restore}) {
        auto version = tool_major_version(program, servers.interrupt());
        if (!version) {
            block(report, "tool_missing", program, version.error().message + ": " + version.error().detail,
                  "install the PostgreSQL client programs and name them in mover.pg_dump and mover.pg_restore");
        } else if (*version < source_version / 10000) {
            block(report, "tool_too_old", program, program + " is older than the source server",
                  "install version " + std::to_string(source_version / 10000) +
                      " or later of the PostgreSQL client programs");
        }
    }
}

Result<void> check_replication_login(const MoveServers& servers, PreflightReport& report) {
    auto stream = servers.replication();
    if (stream) return {};
    if (stream.error().kind == ErrorKind::cancelled) return stream.error();
    block(report, "replication_refused", servers.config().mover.user,
          "the source server refuses a replication connection: " + stream.error().message,
          "give the role REPLICATION, allow it in pg_hba.conf for this database, and raise max_wal_senders if all are "
          "in use");
    return {};
}

Result<void> check_free_slots(ServerSession& source, PreflightReport& report) {
    auto rows = source.exec(
        "SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots), "
        "current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication), "
        "current_setting('max_slot_wal_keep_size') <> '-1', current_setting('max_slot_wal_keep_size')");
    if (!rows) return rows.error();
    // One for the stream, one for the verifying snapshots.
    if (rows->number(0, 0) < 2) {
        block(report, "no_free_slot", "max_replication_slots",
              "the source server has fewer than two free replication slots",
              "raise max_replication_slots, or drop slots that nobody uses");
    }
    if (rows->number(0, 1) < 2) {
        block(report, "no_free_sender", "max_wal_senders", "the source server has fewer than two free WAL senders",
              "raise max_wal_senders");
    }
    if (rows->flag(0, 2)) {
        report.warnings.push_back(
            {"slot_may_be_lost", "max_slot_wal_keep_size",
             "the source server drops replication slots that keep more than " + rows->string(0, 3) + " of WAL",
             "raise max_slot_wal_keep_size for the time of the move if the tenant is large"});
    }
    return {};
}

}  // namespace

Result<void> check_source_server(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    if (source.server_version() < oldest_version) {
        block(report, "server_too_old", servers.source_placement().cluster,
              "the source server is older than PostgreSQL 14", "upgrade it");
        return {};
    }
    auto rows = source.exec(
        "SELECT current_setting('wal_level'), pg_is_in_recovery(), r.rolreplication OR r.rolsuper, "
        "has_database_privilege(current_database(), 'CREATE') FROM pg_roles r WHERE r.rolname = current_user");
    if (!rows) return rows.error();
    if (rows->empty()) return fail(ErrorKind::internal, "the mover's role isn't in pg_roles");
    if (rows->text(0, 0) != "logical") {
        block(report, "wal_level", "wal_level",
              "the source server's wal_level is " + rows->string(0, 0) + ", not logical",
              "set wal_level = logical and restart the server");
    }
    if (rows->flag(0, 1)) {
        block(report, "source_is_standby", servers.source_placement().cluster, "the source server is a standby",
              "give the primary's address in the catalog's cluster");
    }
    if (!rows->flag(0, 2)) {
        block(report, "no_replication_right", servers.config().mover.user, "the mover's role may not replicate",
              "ALTER ROLE " + quote_ident(servers.config().mover.user) + " REPLICATION");
    }
    if (!rows->flag(0, 3)) {
        block(report, "no_create_right", servers.config().mover.user,
              "the mover's role may not make a schema and a publication in the source database",
              "GRANT CREATE ON DATABASE " + quote_ident(servers.source_placement().database) + " TO " +
                  quote_ident(servers.config().mover.user));
    }
    PP_TRY(check_free_slots(source, report));
    if (rows->text(0, 0) == "logical" && rows->flag(0, 2)) PP_TRY(check_replication_login(servers, report));
    check_tools(servers, source.server_version(), report);
    return {};
}

Result<PreflightReport> run_preflight(const MoveServers& servers) {
    PreflightReport report;
    report.source = servers.source_placement();
    report.target = servers.target_placement();
    auto source = servers.source();
    if (!source) return source.error();
    const auto& schema = servers.schema();
    const bool rows = servers.rows() != nullptr;
    if (!rows && (schema.empty() || schema == "public" || schema == "information_schema" || schema.starts_with("pg_"))) {
        block(report, "schema_not_movable", schema, "only a schema of the tenant's own can be moved",
              "give the tenant a schema of its own");
        return report;
    }
    auto exists = (*source)->exec("SELECT 1 FROM pg_namespace WHERE nspname = $1", {schema});
    if (!exists) return exists.error();
    if (!rows && exists->empty()) {
        block(report, "schema_missing", schema, "the source database has no schema of this name",
              "correct the tenant's placement in the catalog");
        return report;
    }
    PP_TRY(check_source_server(**source, servers, report));
    if ((*source)->server_version() < oldest_version) return report;
    PP_TRY(check_source_schema(**source, servers, report));
    PP_TRY(check_target(**source, servers, report));
    PP_TRY(check_way_back(**source, servers, report));
    // What one server of modest size stores in a second, with its indexes built.
    constexpr double bytes_per_second = 40e6;
    report.seconds_estimate = 2.0 + static_cast<double>(report.bytes) / bytes_per_second;
    const auto bound = servers.config().mover.target_mib_max;
    if (bound != 0 && report.bytes > std::uint64_t{bound} * 1'048'576) {
        block(report, "too_large", servers.what_moves(), "takes more than mover.target_mib_max (" + std::to_string(bound) + " MiB)",
              "raise the bound if the target's disk has room");
    }
    return report;
}

}  // namespace pgporter
