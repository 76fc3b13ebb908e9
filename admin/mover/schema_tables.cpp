#include "admin/mover/schema_tables.hpp"

#include <algorithm>
#include <unordered_map>


namespace pgporter {
namespace {

constexpr const char* tables_query = R"sql(
SELECT c.oid, c.relname, c.relkind = 'p', c.relreplident,
       pg_relation_size(c.oid) / current_setting('block_size')::bigint,
       pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint, n.nspname, c.relispartition,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion) AND NOT
               CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END),
       pg_table_size(c.oid),
       coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) / current_setting('block_size')::bigint
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY c.oid)sql";

// Equality counts as such only with a default btree or hash operator class: `=` of boxes and circles compares areas.
constexpr const char* columns_query = R"sql(
WITH RECURSIVE wanted AS MATERIALIZED (
  SELECT a.*, c.relreplident
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
   WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = ANY ($1::text[])) AND c.relkind IN ('r', 'p')
), walk (type, base) AS (
  SELECT DISTINCT atttypid, atttypid FROM wanted
  UNION ALL
  SELECT w.type, t.typbasetype FROM walk w JOIN pg_type t ON t.oid = w.base AND t.typtype = 'd'
), basic AS (
  SELECT w.type, t.oid AS base, t.typtype, CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END AS element
    FROM walk w JOIN pg_type t ON t.oid = w.base AND t.typtype <> 'd'
), facts AS (
  SELECT b.type,
         EXISTS (SELECT FROM pg_type s WHERE s.oid IN (b.base, b.element)
                    AND (s.typsend = 0 OR s.typreceive = 0 OR s.typname IN ('regproc', 'regprocedure', 'regoper',
                         'regoperator', 'regclass', 'regtype', 'regrole', 'regnamespace', 'regconfig', 'regdictionary',
                         'regcollation'))) AS text_only,
         b.typtype = 'e' OR EXISTS (SELECT FROM pg_type s WHERE s.oid = b.element AND s.typtype = 'e')
           OR b.base IN (1043)
           OR EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod AND m.amname IN ('btree', 'hash')
                       WHERE o.opcdefault AND o.opcintype = CASE WHEN b.element = 0 THEN b.base ELSE b.element END)
         AS comparable
    FROM basic b
)
SELECT a.attrelid, a.attname, format_type(a.atttypid, -1), a.atttypid, a.atttypmod,
       coalesce(a.attnum = ANY (i.indkey), false), a.attidentity = 'a', f.comparable, f.text_only, a.attgenerated <> '',
       coalesce(a.attnum = i.indkey[0], false)
  FROM wanted a
  JOIN facts f ON f.type = a.atttypid
  LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisvalid AND i.indimmediate
   AND ((a.relreplident = 'd' AND i.indisprimary) OR (a.relreplident = 'i' AND i.indisreplident))
 ORDER BY a.attrelid, a.attnum)sql";

}  // namespace

bool SourceTable::binary_copy() const {
    return std::none_of(columns.begin(), columns.end(), [](const TableColumn& column) { return column.text_only; });
}

Result<std::vector<SourceTable>> read_tables(ServerSession& session, const SchemaList& schemas) {
    auto rows = session.exec(tables_query, {schemas.as_array()});
    if (!rows) return rows.error();
    std::vector<SourceTable> tables;
    std::unordered_map<std::int64_t, std::size_t> index;
    for (int row = 0; row < rows->count(); ++row) {
        SourceTable table;
        table.oid = static_cast<std::uint32_t>(rows->number(row, 0));
        table.schema = rows->string(row, 7);
        table.partition = rows->flag(row, 8);
        table.other_unique = rows->flag(row, 9);
        table.stored_bytes = static_cast<std::uint64_t>(rows->number(row, 10));
        table.toast_pages = static_cast<std::uint64_t>(rows->number(row, 11));
        table.name = rows->string(row, 1);
        table.partitioned = rows->flag(row, 2);
        table.replica_identity = rows->text(row, 3).at(0);
        table.pages = static_cast<std::uint64_t>(rows->number(row, 4));
        table.bytes = static_cast<std::uint64_t>(rows->number(row, 5));
        table.rows_estimate = static_cast<std::uint64_t>(rows->number(row, 6));
        index.emplace(table.oid, tables.size());
        tables.push_back(std::move(table));
    }
    auto columns = session.exec(columns_query, {schemas.as_array()});
    if (!columns) return columns.error();
    for (int row = 0; row < columns->count(); ++row) {
        const auto found = index.find(columns->number(row, 0));
        if (found == index.end()) continue;  // made just now; the signature will say so
        auto& table = tables[found->second];
        if (columns->flag(row, 9)) {
            table.generated.push_back(columns->string(row, 1));
            continue;
        }
        TableColumn column;
        column.name = columns->string(row, 1);
        column.type = columns->string(row, 2);
        column.type_oid = static_cast<std::uint32_t>(columns->number(row, 3));
        column.type_modifier = static_cast<std::int32_t>(columns->number(row, 4));
        column.key = columns->flag(row, 5);
        column.identity_always = columns->flag(row, 6);
        column.comparable = columns->flag(row, 7);
        column.text_only = columns->flag(row, 8);
        if (column.key) table.key.push_back(table.columns.size());
        if (columns->flag(row, 10)) table.key_leader = table.columns.size();
        table.columns.push_back(std::move(column));
    }
    return tables;
}

Result<std::map<std::uint32_t, std::uint32_t>> read_file_nodes(ServerSession& session,
                                                               const SchemaList& schemas) {
    auto rows = session.exec(
        "SELECT oid, pg_relation_filenode(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace IN "
        "(SELECT oid FROM pg_namespace WHERE nspname = ANY ($1::text[]))",
        {schemas.as_array()});
    if (!rows) return rows.error();
    std::map<std::uint32_t, std::uint32_t> nodes;
    for (int row = 0; row < rows->count(); ++row) {
        nodes.emplace(static_cast<std::uint32_t>(rows->number(row, 0)),
                      static_cast<std::uint32_t>(rows->number(row, 1)));
    }
    return nodes;
}

Result<std::string> signature_query(ServerSession& session, const SchemaList& schemas) {
    auto rows = session.exec("SELECT string_agg(oid::text, ', '), count(*) FROM pg_namespace WHERE nspname = ANY ($1::text[])",
                             {schemas.as_array()});
    if (!rows) return rows.error();
    if (rows->is_null(0, 0) || static_cast<std::size_t>(rows->number(0, 1)) != schemas.names().size()) {
        return fail(ErrorKind::not_found, "the source database doesn't have all of the schemas " + schemas.as_array());
    }
    const auto oids = "(" + rows->string(0, 0) + ")";
    // Everything in a schema depends on it in pg_depend, whose index by the referenced object makes this cheap.
    return R"sql(WITH members AS MATERIALIZED (
  SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid IN )sql" +
           oids + R"sql(
), relations AS MATERIALIZED (SELECT objid AS oid FROM members WHERE classid = 'pg_class'::regclass),
facts (fact) AS (
  SELECT ROW('n', nspname, nspowner, nspacl)::text FROM pg_namespace WHERE oid IN )sql" +
           oids + R"sql(
  UNION ALL SELECT ROW('m', classid, objid)::text FROM members
  UNION ALL SELECT ROW('c', c.oid, c.relname, c.relowner, c.relkind, c.relpersistence, c.relreplident,
      c.relrowsecurity,
      c.relforcerowsecurity, c.relispartition, c.relacl, c.reloptions, c.relpartbound)::text
      FROM relations r JOIN pg_class c USING (oid)
  UNION ALL SELECT ROW('a', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull,
      a.attidentity, a.attgenerated,
      a.attisdropped, a.attcollation, a.attacl)::text FROM relations r JOIN pg_attribute a
      ON a.attrelid = r.oid AND a.attnum > 0
  UNION ALL SELECT ROW('d', d.adrelid, d.adnum, d.adbin)::text FROM relations r JOIN pg_attrdef d ON d.adrelid = r.oid
  UNION ALL SELECT ROW('o', o.conrelid, o.conname, o.contype, o.condeferrable, o.condeferred, o.convalidated,
      o.conkey, o.confrelid,
      o.confkey, o.confupdtype, o.confdeltype, o.conbin)::text FROM relations r JOIN pg_constraint o
      ON o.conrelid = r.oid
  UNION ALL SELECT ROW('i', i.indrelid, x.relname, x.relam, x.reloptions, i.indisunique, i.indisprimary,
      i.indisreplident, i.indkey,
      i.indclass, i.indpred, i.indexprs)::text
      FROM relations r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class x ON x.oid = i.indexrelid
  UNION ALL SELECT ROW('t', t.tgrelid, t.tgname, t.tgfoid, t.tgtype, t.tgenabled, t.tgqual, t.tgargs)::text
      FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
      AND t.tgname NOT LIKE 'pgporter\_fence\_%' AND t.tgname NOT LIKE 'pgporter\_back\_fence\_%'
  UNION ALL SELECT ROW('w', w.ev_class, w.rulename, w.ev_type, w.ev_enabled, w.is_instead, w.ev_qual,
      w.ev_action)::text
      FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid
  UNION ALL SELECT ROW('p', p.polrelid, p.polname, p.polcmd, p.polpermissive, p.polroles, p.polqual,
      p.polwithcheck)::text
      FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
  UNION ALL SELECT ROW('h', h.inhrelid, h.inhparent)::text FROM relations r JOIN pg_inherits h ON h.inhrelid = r.oid
  UNION ALL SELECT ROW('s', s.seqrelid, s.seqtypid, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache,
      s.seqcycle)::text
      FROM relations r JOIN pg_sequence s ON s.seqrelid = r.oid
  UNION ALL SELECT ROW('f', f.oid, f.proname, f.proowner, f.prosrc, f.probin, f.proconfig, f.provolatile,
      f.prosecdef, f.proisstrict,
      f.proacl, f.prosqlbody)::text FROM members m JOIN pg_proc f ON f.oid = m.objid
      WHERE m.classid = 'pg_proc'::regclass
  UNION ALL SELECT ROW('y', y.oid, y.typname, y.typowner, y.typnotnull, y.typdefault, y.typacl)::text
      FROM members m JOIN pg_type y ON y.oid = m.objid WHERE m.classid = 'pg_type'::regclass
  UNION ALL SELECT ROW('e', e.enumtypid, e.enumsortorder, e.enumlabel)::text
      FROM members m JOIN pg_enum e ON e.enumtypid = m.objid WHERE m.classid = 'pg_type'::regclass
  UNION ALL SELECT ROW('k', k.contypid, k.conname, k.conbin, k.convalidated)::text
      FROM members m JOIN pg_constraint k ON k.contypid = m.objid WHERE m.classid = 'pg_type'::regclass
) SELECT count(*)::text || ':' || coalesce(sum(hashtextextended(fact, 0)::numeric), 0)::text FROM facts)sql";
}

Result<std::string> operator_search_path(ServerSession& session) {
    auto rows = session.exec(
        "SELECT coalesce(string_agg(DISTINCT ', ' || quote_ident(n.nspname), ''), '') FROM pg_extension e "
        "JOIN pg_namespace n ON n.oid = e.extnamespace WHERE n.nspname <> 'pg_catalog'");
    if (!rows) return rows.error();
    return "pg_catalog" + rows->string(0, 0);
}

}  // namespace pgporter
