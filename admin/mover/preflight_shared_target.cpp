// What keeps the rows of a tenant's own database from going into shared tables: tables that aren't there or differ, rows of the tenant's
// key that are there already, keys that others have, global rows that are missing. The two databases may be on different servers, so
// values are carried from the one to the other, in batches.
#include <map>

#include "admin/mover/preflight.hpp"
#include "admin/mover/shared_rows.hpp"

namespace pgporter {
namespace {

constexpr int values_per_query = 5'000;

void block(PreflightReport& report, std::string code, std::string object, std::string message, std::string remedy) {
    report.blockers.push_back({std::move(code), std::move(object), std::move(message), std::move(remedy)});
}

struct Column {
    std::string type;
    bool generated = false;
    bool needs_value = false;  // NOT NULL, and no default
};
using Shape = std::map<std::string, std::map<std::string, Column>>;  // of tables, by qualified name

Result<Shape> read_shapes(ServerSession& session, const SchemaList& schemas) {
    auto rows = session.exec(
        "SELECT format('%I.%I', n.nspname, c.relname), a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '', "
        "a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN "
        "('r', 'p') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
        {schemas.as_array()});
    if (!rows) return rows.error();
    Shape shape;
    for (int row = 0; row < rows->count(); ++row) {
        shape[rows->string(row, 0)][rows->string(row, 1)] = {rows->string(row, 2), rows->flag(row, 3), rows->flag(row, 4)};
    }
    return shape;
}

void compare_shapes(const Shape& own, const Shape& shared, PreflightReport& report) {
    for (const auto& [name, columns] : own) {
        const auto there = shared.find(name);
        if (there == shared.end()) {
            block(report, "table_missing", name, "the shared database has no such table", "make it there, or drop it from the tenant's database");
            continue;
        }
        std::string differences;
        const auto differs = [&](const std::string& what) { differences += (differences.empty() ? "" : ", ") + what; };
        for (const auto& [column, mine] : columns) {
            const auto found = there->second.find(column);
            if (found == there->second.end()) {
                differs("no column " + column);
            } else if (found->second.type != mine.type || found->second.generated != mine.generated) {
                differs(column + " is " + found->second.type + (found->second.generated ? " (generated)" : "") + ", not " + mine.type +
                        (mine.generated ? " (generated)" : ""));
            }
        }
        for (const auto& [column, theirs] : there->second) {
            if (!columns.contains(column) && theirs.needs_value) differs(column + " needs a value");
        }
        if (differences.empty()) continue;
        block(report, "table_differs", name, "the shared table doesn't take the tenant's rows: " + differences,
              "bring both to the same definition");
    }
}

// Counts the source's rows of values for which `there` (a query of `FROM unnest(..) AS k (..)`) finds something.
Result<std::int64_t> count_values(ServerSession& source, ServerSession& shared, const std::string& query, const std::vector<std::string>& types,
                                  const std::string& there) {
    PP_TRY(source.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; DECLARE v NO SCROLL CURSOR FOR " + query));
    std::int64_t found = 0;
    for (;;) {
        auto rows = source.exec("FETCH " + std::to_string(values_per_query) + " FROM v");
        if (!rows) return rows.error();
        if (rows->empty()) break;
        std::string arrays;
        for (std::size_t i = 0; i < types.size(); ++i) {
            std::vector<std::string> values;
            for (int row = 0; row < rows->count(); ++row) values.push_back(rows->string(row, static_cast<int>(i)));
            arrays += (i == 0 ? "" : ", ") + quote_literal(to_array_literal(values)) + "::" + types[i] + "[]";
        }
        auto counted = shared.exec("SELECT count(*) FROM unnest(" + arrays + ") AS k " + there);
        if (!counted) return counted.error();
        found += counted->number(0, 0);
    }
    PP_TRY(source.exec("ROLLBACK"));
    return found;
}

// The key's expressions are the same in both databases, as the tables are.
constexpr const char* collision_query = R"sql(
SELECT format('%s on %s.%s', x.relname, n.nspname, c.relname), format('%I.%I', n.nspname, c.relname),
       (SELECT string_agg(format('(%s)', pg_get_indexdef(i.indexrelid, k, true)), E'\n' ORDER BY k) FROM generate_series(1, i.indnkeyatts) k),
       (SELECT string_agg(format_type(a.atttypid, NULL), E'\n' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attnum <= i.indnkeyatts),
       coalesce(pg_get_expr(i.indpred, i.indrelid), 'true')
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = $2 AND NOT t.attisdropped
 WHERE n.nspname = ANY ($1::text[]) AND i.indisunique AND i.indisvalid AND NOT x.relispartition
   AND coalesce(obj_description(coalesce(pg_partition_root(c.oid)::oid, c.oid), 'pg_class'), '') !~* 'pgporter: *global'
   AND NOT t.attnum = ANY ((i.indkey::int2[])[0 : i.indnkeyatts - 1]) ORDER BY 1)sql";

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at <= text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        lines.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

Result<void> check_collisions(ServerSession& source, ServerSession& shared, const MoveServers& servers, PreflightReport& report) {
    auto indexes = shared.exec(collision_query, {servers.schemas().as_array(), servers.rows()->column});
    if (!indexes) return indexes.error();
    for (int row = 0; row < indexes->count(); ++row) {
        const auto keys = lines_of(indexes->string(row, 2));
        const auto types = lines_of(indexes->string(row, 3));
        const auto predicate = "(" + indexes->string(row, 4) + ")";
        std::string texts;
        std::string names;
        std::string condition;
        std::string whole = predicate;
        for (std::size_t i = 0; i < keys.size(); ++i) {
            const auto name = "pgporter_k" + std::to_string(i);
            texts += (i == 0 ? "" : ", ") + keys[i] + "::text";
            names += (i == 0 ? "" : ", ") + name;
            condition += (i == 0 ? "" : " AND ") + keys[i] + " = " + name;
            whole += " AND " + keys[i] + " IS NOT NULL";
        }
        const auto table = indexes->string(row, 1);
        auto met = count_values(source, shared, "SELECT " + texts + " FROM " + table + " WHERE " + whole, types,
                                "(" + names + ") JOIN " + table + " ON " + condition + " AND " + predicate);
        if (!met) return met.error();
        if (*met == 0) continue;
        block(report, "key_collision", indexes->string(row, 0),
              std::to_string(*met) + " rows of the tenant have a key that somebody else's row in the shared table has",
              "change them in the tenant's database, or add the tenant column to the index");
    }
    return {};
}

Result<void> check_global_rows(ServerSession& source, ServerSession& shared, const MoveServers& servers, PreflightReport& report) {
    auto keys = source.exec(
        "SELECT format('%s on %s.%s', k.conname, n.nspname, c.relname), format('%I.%I', n.nspname, c.relname), format('%I.%I', gn.nspname, g.relname), "
        "string_agg(quote_ident(x.attname), E'\\n' ORDER BY u.place), string_agg(quote_ident(y.attname), E'\\n' ORDER BY u.place), "
        "string_agg(format_type(x.atttypid, NULL), E'\\n' ORDER BY u.place) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class g ON g.oid = k.confrelid JOIN pg_namespace gn ON gn.oid = g.relnamespace, "
        "unnest(k.conkey, k.confkey) WITH ORDINALITY AS u (x, y, place) JOIN pg_attribute x ON x.attnum = u.x JOIN pg_attribute y ON y.attnum = u.y "
        "WHERE x.attrelid = k.conrelid AND y.attrelid = k.confrelid AND k.contype = 'f' AND k.conparentid = 0 AND n.nspname = ANY ($1::text[]) "
        "AND EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = $2 AND NOT t.attisdropped) "
        "AND NOT EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = g.oid AND t.attname = $2 AND NOT t.attisdropped "
        "AND coalesce(obj_description(g.oid, 'pg_class'), '') !~* 'pgporter: *global') GROUP BY k.oid, 1, 2, 3 ORDER BY 1",
        {servers.schemas().as_array(), servers.rows()->column});
    if (!keys) return keys.error();
    for (int row = 0; row < keys->count(); ++row) {
        const auto mine = lines_of(keys->string(row, 3));
        const auto theirs = lines_of(keys->string(row, 4));
        std::string texts;
        std::string names;
        std::string whole;
        std::string condition;
        for (std::size_t i = 0; i < mine.size(); ++i) {
            const auto name = "k" + std::to_string(i);
            texts += (i == 0 ? "" : ", ") + mine[i] + "::text";
            names += (i == 0 ? "" : ", ") + name;
            whole += (i == 0 ? "" : " AND ") + mine[i] + " IS NOT NULL";
            condition += (i == 0 ? "g." : " AND g.") + theirs[i] + " = k." + name;
        }
        auto missing = count_values(source, shared, "SELECT DISTINCT " + texts + " FROM " + keys->string(row, 1) + " WHERE " + whole, lines_of(keys->string(row, 5)),
                                    "(" + names + ") WHERE NOT EXISTS (SELECT FROM " + keys->string(row, 2) + " AS g WHERE " + condition + ")");
        if (!missing) return missing.error();
        if (*missing == 0) continue;
        block(report, "global_row_missing", keys->string(row, 0),
              std::to_string(*missing) + " rows of a global table that the tenant's rows refer to aren't in the shared database's",
              "add them there, or correct the tenant's rows");
    }
    return {};
}

Result<void> check_free_key(ServerSession& shared, const std::vector<SourceTable>& tables, const MoveServers& servers, PreflightReport& report) {
    for (const auto& table : tables) {
        if (table.partitioned || !table.tenant_column) continue;
        auto taken = shared.exec("SELECT count(*) FROM ONLY " + table.qualified_name() + " AS t WHERE " + table.row_filter);
        if (!taken) return taken.error();
        if (taken->number(0, 0) == 0) continue;
        block(report, "key_taken", table.plain_name(), taken->string(0, 0) + " rows of the shared table have the tenant's key \"" + servers.rows()->key + "\" already",
              "find out whose they are, and delete them");
    }
    return {};
}

// As the tenant's own database has them: what isn't its own can't go along.
Result<void> check_own_rows(ServerSession& source, const std::vector<SourceTable>& tables, const MoveServers& servers, PreflightReport& report) {
    for (const auto& table : tables) {
        if (table.partitioned || !table.tenant_column) continue;
        auto strangers = source.exec("SELECT count(*) FROM ONLY " + table.qualified_name() + " AS t WHERE (" + table.row_filter + ") IS NOT TRUE");
        if (!strangers) return strangers.error();
        if (strangers->number(0, 0) == 0) continue;
        block(report, "not_the_tenants", table.plain_name(), strangers->string(0, 0) + " rows have another " + servers.rows()->column + " than the tenant's key",
              "correct or delete them");
    }
    return {};
}

}  // namespace

Result<void> check_shared_target(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    const auto& rows = *servers.rows();
    if (rows.column.empty()) {
        block(report, "no_tenant_column", servers.target_placement().database,
              "the catalog doesn't say which column of the shared database tells whose a row is", "set the database's tenant_column");
        return {};
    }
    auto opened = servers.target();
    if (!opened) return opened.error();
    auto& shared = **opened;
    for (auto* session : {&source, &shared}) PP_TRY(session->exec("SET row_security = off"));
    auto trouble = find_shared_table_trouble(source, rows, servers.schemas());
    if (!trouble) return trouble.error();
    for (const auto& one : *trouble) block(report, one.code, one.object, one.message, one.remedy);
    auto own = read_shapes(source, servers.schemas());
    if (!own) return own.error();
    auto theirs = read_shapes(shared, servers.schemas());
    if (!theirs) return theirs.error();
    compare_shapes(*own, *theirs, report);
    auto role = shared.exec("BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK");
    if (!role) {
        PP_TRY(shared.exec("ROLLBACK"));
        if (role.error().kind != ErrorKind::forbidden) return role.error();
        block(report, "no_replica_role_right", servers.config().mover.user, "the mover's role may not set session_replication_role on the target server",
              "GRANT SET ON PARAMETER session_replication_role TO " + quote_ident(servers.config().mover.user) + "; before PostgreSQL 15 make it a superuser");
    }
    auto create = shared.exec("SELECT has_database_privilege(current_database(), 'CREATE')");
    if (!create) return create.error();
    if (!create->flag(0, 0)) {
        block(report, "no_create_right", servers.config().mover.user, "the mover's role may not make a schema in the target database",
              "GRANT CREATE ON DATABASE " + quote_ident(servers.target_placement().database) + " TO " + quote_ident(servers.config().mover.user));
    }
    if (!report.blockers.empty()) return {};  // what follows needs tables that fit
    auto tables = read_tables(source, servers.schemas());
    if (!tables) return tables.error();
    if (auto marked = mark_shared_tables(source, rows, *tables); !marked) {
        block(report, "key_type", rows.key, "the tenant's key can't be a value of the tenant column: " + marked.error().message,
              "correct the tenant's key in the catalog");
        return {};
    }
    PP_TRY(check_own_rows(source, *tables, servers, report));
    PP_TRY(check_free_key(shared, *tables, servers, report));
    if (!report.blockers.empty()) return {};
    PP_TRY(check_collisions(source, shared, servers, report));
    return check_global_rows(source, shared, servers, report);
}

}  // namespace pgporter
