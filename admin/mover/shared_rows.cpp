#include "admin/mover/shared_rows.hpp"

#include <algorithm>
#include <unordered_map>

#include "catalog/sql_identifier.hpp"

namespace pgporter {
namespace {

// $1 the shared schemas, $2 the tenant column. Types whose equality is that of their texts, so that the stream's text tells whose a
// row is: whole numbers, uuid, enums, text and varchar with a deterministic collation. A partition is global as its root is.
constexpr const char* tables_with = R"sql(
WITH RECURSIVE tables AS (
  SELECT c.oid, c.relkind, c.relispartition, c.relhassubclass, format('%I.%I', n.nspname, c.relname) AS name,
         coalesce(obj_description(coalesce(pg_partition_root(c.oid)::oid, c.oid), 'pg_class'), '') ~* 'pgporter: *global' AS is_global,
         a.attnum, a.atttypid, a.attnotnull, a.attgenerated,
         a.attcollation = 0 OR (SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = a.attcollation) AS deterministic
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
   WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p')
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), walk (type, base) AS (
  SELECT DISTINCT atttypid, atttypid FROM tables WHERE attnum IS NOT NULL
  UNION ALL
  SELECT w.type, t.typbasetype FROM walk w JOIN pg_type t ON t.oid = w.base AND t.typtype = 'd'
), base AS (
  SELECT w.type, t.oid AS base, format_type(t.oid, -1) AS base_name,
         t.typtype = 'e' OR t.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype, 'text'::regtype,
                                      'varchar'::regtype) AS plain
    FROM walk w JOIN pg_type t ON t.oid = w.base AND t.typtype <> 'd'
)
)sql";

constexpr const char* trouble_query = R"sql(
SELECT 'table_without_tenant_column', name, 'the table has no column ' || quote_ident($2) || ' and isn''t declared global',
       'if it is everybody''s: COMMENT ON TABLE ' || name || ' IS ''pgporter: global''; else add the column'
  FROM tables WHERE attnum IS NULL AND NOT is_global AND NOT relispartition
UNION ALL
SELECT 'tenant_column_type', name, 'the tenant column has type ' || format_type(atttypid, -1) ||
         CASE WHEN attgenerated <> '' THEN ' and is generated' WHEN NOT deterministic THEN ' with a collation that calls different texts equal'
              ELSE '' END ||
         ': the stream of changes doesn''t tell whose a row is',
       'use a whole number, uuid, text, varchar or an enum'
  FROM tables JOIN base ON type = atttypid
 WHERE NOT is_global AND NOT relispartition AND (NOT plain OR NOT deterministic OR attgenerated <> '')
UNION ALL
SELECT 'foreign_key_outside', format('%s on %s', k.conname, a.name), 'the foreign key refers to a table that isn''t shared',
       'drop the constraint, or bring the referenced table into a shared schema'
  FROM pg_constraint k JOIN tables a ON a.oid = k.conrelid
 WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid NOT IN (SELECT oid FROM tables)
UNION ALL
SELECT 'global_refers_to_rows', format('%s on %s', k.conname, a.name),
       'a foreign key of a global table refers to rows of tenants, of which only some move',
       'drop the constraint, or give the table the tenant column'
  FROM pg_constraint k JOIN tables a ON a.oid = k.conrelid JOIN tables b ON b.oid = k.confrelid
 WHERE k.contype = 'f' AND (a.attnum IS NULL OR a.is_global) AND b.attnum IS NOT NULL AND NOT b.is_global AND k.conparentid = 0
 ORDER BY 1, 2)sql";

constexpr const char* mark_query = R"sql(
SELECT t.oid, t.attnum IS NOT NULL AND NOT t.is_global, b.base_name,
       EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
                WHERE i.indrelid = t.oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = t.attnum)
  FROM tables t LEFT JOIN base b ON b.type = t.atttypid)sql";

}  // namespace

SharedRows shared_rows_of(const Snapshot& snapshot, const Tenant& tenant, const Placement& place) {
    SharedRows rows;
    if (const auto* database = snapshot.find_database(place.cluster, place.database)) rows.column = database->tenant_column;
    rows.key = tenant_key(tenant);
    rows.role = tenant.role;
    snapshot.for_each_tenant([&](const TenantPtr& other) {
        const auto& there = other->placement;
        if (there.kind == PlacementKind::schema && there.cluster == place.cluster && there.database == place.database) {
            rows.other_schemas.push_back(there.schema);
        }
    });
    return rows;
}

Result<SchemaList> read_shared_schemas(ServerSession& source, const SharedRows& rows) {
    auto found = source.exec(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgporter') "
        "AND nspname NOT LIKE 'pgporter\\_move\\_%' AND nspname NOT LIKE 'pgporter\\_back\\_%' AND NOT nspname = ANY ($1::text[]) "
        "ORDER BY nspname = 'public' DESC, oid",
        {to_array_literal(rows.other_schemas)});
    if (!found) return found.error();
    std::vector<std::string> names;
    for (int row = 0; row < found->count(); ++row) names.push_back(found->string(row, 0));
    if (names.empty()) return fail(ErrorKind::not_found, "the source database has no shared schema");
    return SchemaList(std::move(names));
}

Result<std::vector<SharedTableTrouble>> find_shared_table_trouble(ServerSession& source, const SharedRows& rows, const SchemaList& schemas) {
    auto found = source.exec(std::string(tables_with) + trouble_query, {schemas.as_array(), rows.column});
    if (!found) return found.error();
    std::vector<SharedTableTrouble> trouble;
    for (int row = 0; row < found->count(); ++row) {
        trouble.push_back({found->string(row, 0), found->string(row, 1), found->string(row, 2), found->string(row, 3)});
    }
    return trouble;
}

Result<void> mark_shared_tables(ServerSession& source, const SharedRows& rows, std::vector<SourceTable>& tables) {
    std::vector<std::string> schemas;
    for (const auto& table : tables) {
        if (std::find(schemas.begin(), schemas.end(), table.schema) == schemas.end()) schemas.push_back(table.schema);
    }
    auto found = source.exec(std::string(tables_with) + mark_query, {to_array_literal(schemas), rows.column});
    if (!found) return found.error();
    std::unordered_map<std::uint32_t, int> row_of;
    for (int row = 0; row < found->count(); ++row) row_of.emplace(static_cast<std::uint32_t>(found->number(row, 0)), row);
    std::unordered_map<std::string, std::string> values;  // by type: the key as that type's output says it
    for (auto& table : tables) {
        const auto at = row_of.find(table.oid);
        if (at == row_of.end()) return fail(ErrorKind::conflict, "table " + table.plain_name() + " was dropped just now");
        if (!found->flag(at->second, 1)) {
            table.unfenced = true;
            continue;
        }
        const auto column = std::find_if(table.columns.begin(), table.columns.end(), [&](const auto& c) { return c.name == rows.column; });
        if (column == table.columns.end()) {
            return fail(ErrorKind::conflict, "the tenant column of " + table.plain_name() + " can't be followed");
        }
        const auto type = found->string(at->second, 2);
        auto value = values.find(type);
        if (value == values.end()) {
            // A key that isn't of the column's type is a key that no row has: an error, not an empty tenant.
            auto text = source.exec("SELECT " + quote_literal(rows.key) + "::" + type);
            if (!text) return text.error();
            value = values.emplace(type, text->string(0, 0)).first;
        }
        table.tenant_column = static_cast<std::size_t>(column - table.columns.begin());
        table.tenant_value = value->second;
        table.tenant_literal = quote_literal(value->second) + "::" + type;
        table.row_filter = "t." + quote_ident(rows.column) + " = " + table.tenant_literal;
        table.tenant_index = found->flag(at->second, 3);
    }
    return {};
}

}  // namespace pgporter
