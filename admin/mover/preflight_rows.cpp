// What keeps a tenant that is rows of shared tables from being moved alone.
#include <cstdlib>

#include "admin/mover/preflight.hpp"
#include "admin/mover/shared_rows.hpp"

namespace pgporter {
namespace {

void block(PreflightReport& report, std::string code, std::string object, std::string message, std::string remedy) {
    report.blockers.push_back({std::move(code), std::move(object), std::move(message), std::move(remedy)});
}
void warn(PreflightReport& report, std::string code, std::string object, std::string message, std::string remedy) {
    report.warnings.push_back({std::move(code), std::move(object), std::move(message), std::move(remedy)});
}

// Tried, not assumed: with row_security off PostgreSQL refuses a query that a policy would touch, instead of hiding rows.
Result<void> try_to_see_all_rows(ServerSession& source, const std::vector<SourceTable>& tables, const MoveServers& servers,
                                 PreflightReport& report) {
    PP_TRY(source.exec("SET row_security = off"));
    for (const auto& table : tables) {
        auto tried = source.exec("EXPLAIN SELECT FROM " + table.qualified_name());
        if (tried) continue;
        if (tried.error().kind != ErrorKind::forbidden) return tried.error();
        block(report, "row_security_forced", table.plain_name(), "the mover doesn't see all rows of it: " + tried.error().message,
              "ALTER ROLE " + quote_ident(servers.config().mover.user) + " BYPASSRLS");
    }
    return {};
}

// The data of a moved tenant is deleted without its triggers and foreign keys: neither may reach other tenants' rows.
Result<void> try_replica_role_here(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    auto tried = source.exec("BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK");
    if (tried) return {};
    const auto rolled_back = source.exec("ROLLBACK");
    if (tried.error().kind != ErrorKind::forbidden) return tried.error();
    block(report, "no_replica_role_right", servers.config().mover.user,
          "the mover's role may not set session_replication_role on the source server, which `complete` needs to delete the tenant's rows",
          source.server_version() >= 150000
              ? "GRANT SET ON PARAMETER session_replication_role TO " + quote_ident(servers.config().mover.user)
              : "make it a superuser there");
    return rolled_back ? Result<void>{} : Result<void>{rolled_back.error()};
}

Result<void> warn_of_nulls(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    auto nullable = source.exec(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped "
        "WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT a.attnotnull ORDER BY 1",
        {servers.schemas().as_array(), servers.rows()->column});
    if (!nullable) return nullable.error();
    for (int row = 0; row < nullable->count(); ++row) {
        warn(report, "tenant_column_nullable", nullable->string(row, 0), "rows without a tenant are nobody's: they aren't moved",
             "make the column NOT NULL, if every row is a tenant's");
    }
    return {};
}

// `complete` looks for connections that are silent since the flip (find_late_writers).
Result<void> warn_of_unseen_sessions(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    auto sees = source.exec("SELECT pg_has_role(session_user, 'pg_read_all_stats', 'USAGE')");
    if (!sees) return sees.error();
    if (sees->flag(0, 0)) return {};
    warn(report, "no_stats_right", servers.config().mover.user,
         "the mover's role may not see since when other connections to the source are silent; the move goes on, but `complete` waits for that",
         "GRANT pg_read_all_stats TO " + quote_ident(servers.config().mover.user));
    return {};
}

// How much of the shared tables is the tenant's, as the planner estimates it.
Result<void> add_up(ServerSession& source, const std::vector<SourceTable>& tables, PreflightReport& report) {
    for (const auto& table : tables) {
        if (table.partitioned) continue;
        ++report.tables;
        std::uint64_t rows = table.rows_estimate;
        if (!table.row_filter.empty()) {
            auto plan = source.exec("EXPLAIN SELECT FROM ONLY " + table.qualified_name() + " AS t" + table.where());
            if (!plan) return plan.error();
            const auto line = plan->string(0, 0);
            const auto at = line.find(" rows=");
            rows = at == std::string::npos ? 0 : std::strtoull(line.c_str() + at + 6, nullptr, 10);
            if (!table.tenant_index && table.bytes > 8'000'000) {
                warn(report, "no_tenant_index", table.plain_name(),
                     "no index begins with the tenant column: the whole table is read to copy, to compare and to delete the tenant's rows",
                     "CREATE INDEX CONCURRENTLY on the column");
            }
        }
        report.rows_estimate += rows;
        const auto all = std::max<std::uint64_t>(table.rows_estimate, 1);
        report.bytes += static_cast<std::uint64_t>(static_cast<double>(table.bytes) * static_cast<double>(std::min(rows, all)) /
                                                   static_cast<double>(all));
    }
    return {};
}

bool is_ascii(const std::string& text) {
    for (const char c : text) {
        if (static_cast<unsigned char>(c) >= 0x80) return false;
    }
    return true;
}

}  // namespace

void check_target_entry(const Config& config, const Snapshot& snapshot, const Tenant& tenant, const Placement& target,
                        PreflightReport& report) {
    const auto* here = snapshot.find_database(tenant.placement.cluster, tenant.placement.database);
    if (here != nullptr && here->isolation == Isolation::login && find_server_login(config, target.cluster, tenant.role) == nullptr) {
        block(report, "no_server_login", tenant.role, "isolation login: pgporter has no password for the tenant's role on the target cluster",
              "add the role to server_logins for cluster " + target.cluster);
    }
    const auto* there = snapshot.find_database(target.cluster, target.database);
    static const Database unnamed;
    if (there == nullptr) return;
    if (here == nullptr) here = &unnamed;
    if (here->isolation == there->isolation && here->tenant_setting == there->tenant_setting) return;
    block(report, "target_entry_differs", target.cluster + "/" + target.database,
          "the target database's entry in the catalog has another isolation or tenant_setting than the source's",
          target.kind == PlacementKind::rows ? "make them the same" : "make them the same, or remove the entry: the move makes it");
}

Result<void> check_shared_rows(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    const auto& rows = *servers.rows();
    if (rows.column.empty()) {
        block(report, "no_tenant_column", servers.source_placement().database,
              "the catalog doesn't say which column tells whose a row is", "set the database's tenant_column");
        return {};
    }
    if (!is_ascii(rows.key) && source.parameter("server_encoding") != "UTF8") {
        block(report, "key_encoding", rows.key, "the tenant's key has letters that the source database's encoding may write in another way",
              "move it by hand");
        return {};
    }
    auto trouble = find_shared_table_trouble(source, rows, servers.schemas());
    if (!trouble) return trouble.error();
    for (const auto& one : *trouble) block(report, one.code, one.object, one.message, one.remedy);
    auto tables = read_tables(source, servers.schemas());
    if (!tables) return tables.error();
    PP_TRY(try_to_see_all_rows(source, *tables, servers, report));
    PP_TRY(try_replica_role_here(source, servers, report));
    PP_TRY(warn_of_nulls(source, servers, report));
    PP_TRY(warn_of_unseen_sessions(source, servers, report));
    if (!report.blockers.empty()) return {};  // what follows needs sound tables
    auto marked = mark_shared_tables(source, rows, *tables);
    if (!marked) {
        block(report, "key_type", rows.key, "the tenant's key can't be a value of the tenant column: " + marked.error().message,
              "correct the tenant's key in the catalog");
        return {};
    }
    auto between = read_references_between_tenants(source, rows.column, *tables);
    if (!between) return between.error();
    for (const auto& one : *between) {
        block(report, "reference_between_tenants", one, "a foreign key connects a row of the tenant with one that isn't its",
              "correct these rows; a foreign key that contains the tenant column prevents them");
    }
    return add_up(source, *tables, report);
}

Result<std::vector<std::string>> read_references_between_tenants(ServerSession& source, const std::string& tenant_column,
                                                                 const std::vector<SourceTable>& tables) {
    std::vector<std::string> found;
    std::string oids;
    for (const auto& table : tables) {
        if (table.tenant_column) oids += (oids.empty() ? "" : ", ") + std::to_string(table.oid);
    }
    if (oids.empty()) return found;
    // Of each foreign key to a tenant's table: a query that finds one such pair. From a table without the column any row that refers to the
    // tenant's counts; to a table without it, none.
    auto queries = source.exec(
        "SELECT format('%s on %s', k.conname, k.conrelid::regclass), format('SELECT 1 FROM %s AS a JOIN %s AS b ON %s WHERE %s LIMIT 1', "
        "k.conrelid::regclass, k.confrelid::regclass, (SELECT string_agg(format('a.%I = b.%I', x.attname, y.attname), ' AND ') FROM "
        "unnest(k.conkey, k.confkey) AS u (x, y) JOIN pg_attribute x ON x.attrelid = k.conrelid AND x.attnum = u.x JOIN pg_attribute y ON "
        "y.attrelid = k.confrelid AND y.attnum = u.y), CASE WHEN a.attnum IS NULL THEN 'b.' || quote_ident($1) || ' = %3$s' "
        "ELSE format('a.%1$I IS DISTINCT FROM b.%1$I AND (a.%1$I = %%3$s OR b.%1$I = %%3$s)', $1::text) END), "
        "k.confrelid::oid FROM pg_constraint k LEFT JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attname = $1 AND NOT a.attisdropped "
        "WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid IN (" + oids + ") AND NOT EXISTS (SELECT FROM unnest(k.conkey, k.confkey) "
        "AS u (x, y) JOIN pg_attribute x ON x.attrelid = k.conrelid AND x.attnum = u.x JOIN pg_attribute y ON y.attrelid = k.confrelid AND "
        "y.attnum = u.y WHERE x.attname = $1 AND y.attname = $1)",
        {tenant_column});
    if (!queries) return queries.error();
    for (int row = 0; row < queries->count(); ++row) {
        auto query = queries->string(row, 1);
        std::string value;
        for (const auto& table : tables) {
            if (table.oid == static_cast<std::uint32_t>(queries->number(row, 2))) value = table.tenant_literal;
        }
        for (auto at = query.find("%3$s"); at != std::string::npos; at = query.find("%3$s", at + value.size())) query.replace(at, 4, value);
        auto pair = source.exec(query);
        if (!pair) return pair.error();
        if (!pair->empty()) found.push_back(queries->string(row, 0));
    }
    return found;
}

}  // namespace pgporter
