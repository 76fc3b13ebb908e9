// What in the tenant's schema can't be moved, or would be lost on the way: one query for each finding.
#include "admin/mover/preflight.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {
namespace {

// The objects in the schema and those that hang on its relations; (classid, objid). $1 are the schemas' names.
const std::string members = R"sql(
WITH ns AS (SELECT oid FROM pg_namespace WHERE nspname = ANY ($1::text[])),
direct AS (SELECT classid, objid FROM pg_depend d WHERE refclassid = 'pg_namespace'::regclass
      AND refobjid IN (SELECT oid FROM ns) AND classid <> 'pg_extension'::regclass
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')),
rels AS (SELECT objid AS oid FROM direct WHERE classid = 'pg_class'::regclass
         UNION SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT objid FROM direct
      WHERE classid = 'pg_class'::regclass)),
types AS (SELECT objid AS oid FROM direct WHERE classid = 'pg_type'::regclass
          UNION SELECT reltype FROM pg_class WHERE oid IN (SELECT oid FROM rels) AND reltype <> 0
          UNION SELECT typarray FROM pg_type WHERE typarray <> 0 AND typnamespace IN (SELECT oid FROM ns)),
members AS (
  SELECT classid, objid FROM direct
  UNION SELECT 'pg_class'::regclass::oid, oid FROM rels
  UNION SELECT 'pg_type'::regclass::oid, oid FROM types
  UNION SELECT 'pg_attrdef'::regclass::oid, oid FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM rels)
  UNION SELECT 'pg_constraint'::regclass::oid, oid FROM pg_constraint WHERE connamespace IN (SELECT oid FROM ns)
  UNION SELECT 'pg_trigger'::regclass::oid, oid FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM rels)
  UNION SELECT 'pg_rewrite'::regclass::oid, oid FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM rels)
  UNION SELECT 'pg_policy'::regclass::oid, oid FROM pg_policy WHERE polrelid IN (SELECT oid FROM rels)
)
)sql";

// What members refer to outside, other than built-in objects (below the first normal oid) and the schema itself.
const std::string references = members + R"sql(, outside AS (
  SELECT DISTINCT d.classid, d.objid, d.refclassid, d.refobjid FROM members m JOIN pg_depend d USING (classid, objid)
   WHERE d.refobjid >= 16384 AND NOT (d.refclassid = 'pg_namespace'::regclass AND d.refobjid IN (SELECT oid FROM ns))
     AND NOT EXISTS (SELECT FROM members o WHERE o.classid = d.refclassid AND o.objid = d.refobjid)
     AND NOT (d.classid = 'pg_trigger'::regclass
              AND EXISTS (SELECT FROM pg_trigger f WHERE f.oid = d.objid AND f.tgname ~ '^pgporter_(back_)?fence_'))
), owned AS (
  SELECT o.*, CASE WHEN o.refclassid = 'pg_extension'::regclass THEN o.refobjid ELSE e.refobjid END AS extension
    FROM outside o LEFT JOIN pg_depend e ON e.classid = o.refclassid AND e.objid = o.refobjid AND e.deptype = 'e'
) )sql";

const std::string outside_users =
    members +
    "SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) FROM members m "
    "JOIN pg_depend d ON d.refclassid = m.classid AND d.refobjid = m.objid "
    "WHERE d.deptype IN ('n', 'a') AND NOT EXISTS (SELECT FROM members o WHERE o.classid = d.classid AND o.objid = "
    "d.objid) "
    "AND d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_attrdef'::regclass, 'pg_policy'::regclass, "
    "'pg_class'::regclass, 'pg_trigger'::regclass, 'pg_type'::regclass, 'pg_constraint'::regclass)";

// CREATE EXTENSION makes them on the target.
const std::string not_of_extension =
    "NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')";

struct Finding {
    const char* code;
    std::string query;  // rows of one text: the object
    const char* message;
    const char* remedy;
};

const std::vector<Finding>& blockers() {
    static const std::vector<Finding> findings{
        {"table_without_key",
         std::string() + "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind = 'r' AND c.relreplident <> 'f' AND " +
             not_of_extension + " AND NOT EXISTS (SELECT FROM pg_index i "
         "WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND ((c.relreplident = 'd' AND i.indisprimary) "
         "OR (c.relreplident = 'i' AND i.indisreplident)))",
         "the table has no usable replica identity: its updates and deletes could not be followed",
         "add a primary key, or ALTER TABLE ... REPLICA IDENTITY USING INDEX or FULL"},
        {"unlogged_table",
         std::string() + "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'S') AND c.relpersistence = 'u' AND " +
             not_of_extension,
         "an unlogged table is not in the stream of changes", "ALTER TABLE ... SET LOGGED"},
        {"foreign_table",
         "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind = 'f'",
         "a foreign table's rows live elsewhere", "drop it for the move and make it again in the new database"},
        {"not_owner",
         std::string() + "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'S', 'v', 'm') AND " +
             not_of_extension + " AND NOT pg_has_role(c.relowner, 'USAGE')",
         "the mover's role neither owns this nor is a member of its owner",
         "GRANT the owner's role to the mover's role"},
        {"row_security_forced",
         "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relforcerowsecurity AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = "
         "current_user "
         "AND (r.rolsuper OR r.rolbypassrls))",
         "row security is forced on the table's owner, so that the mover would not see all rows",
         "ALTER ROLE ... BYPASSRLS for the mover's role"},
        {"prepared_transaction",
         "SELECT DISTINCT format('%s on %s.%s', p.gid, n.nspname, c.relname) FROM pg_prepared_xacts p "
         "JOIN pg_locks x ON x.transactionid = p.transaction AND x.pid IS NULL "
         "JOIN pg_locks l ON l.virtualtransaction = x.virtualtransaction AND l.pid IS NULL JOIN pg_class c ON c.oid = "
         "l.relation "
         "JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE p.database = current_database() AND l.database = (SELECT oid FROM pg_database WHERE datname = "
         "current_database()) "
         "AND n.nspname = ANY ($1::text[])",
         "a prepared transaction holds locks on the tenant's tables", "COMMIT PREPARED or ROLLBACK PREPARED it"},
        {"large_object",
         "SELECT format('%s.%s.%s', n.nspname, c.relname, a.attname) FROM pg_class c JOIN pg_namespace n ON n.oid = "
         "c.relnamespace "
         "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type t ON t.oid = "
         "a.atttypid "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p') AND (t.typname = 'lo' OR (t.oid = 26 AND EXISTS (SELECT "
         "FROM pg_trigger g "
         "JOIN pg_proc f ON f.oid = g.tgfoid WHERE g.tgrelid = c.oid AND f.proname = 'lo_manage')))",
         "large objects are not part of a schema and would not be moved", "store the data as bytea"},
        {"foreign_key_outside",
         "SELECT format('%s on %s', k.conname, k.conrelid::regclass) FROM pg_constraint k JOIN pg_class a ON a.oid = "
         "k.conrelid "
         "JOIN pg_class b ON b.oid = k.confrelid JOIN pg_namespace na ON na.oid = a.relnamespace "
         "JOIN pg_namespace nb ON nb.oid = b.relnamespace WHERE k.contype = 'f' AND (na.nspname = ANY ($1::text[])) <> "
         "(nb.nspname = ANY ($1::text[]))",
         "the foreign key connects the schema with another one",
         "drop the constraint, or bring the referenced table into the tenant's schema"},
        {"inherits_outside",
         "SELECT format('%s of %s', h.inhrelid::regclass, h.inhparent::regclass) FROM pg_inherits h JOIN pg_class a ON "
         "a.oid = h.inhrelid "
         "JOIN pg_class b ON b.oid = h.inhparent JOIN pg_namespace na ON na.oid = a.relnamespace "
         "JOIN pg_namespace nb ON nb.oid = b.relnamespace WHERE (na.nspname = ANY ($1::text[])) <> (nb.nspname = ANY ($1::text[]))",
         "a table inherits from, or is a partition of, a table in another schema",
         "detach it, or move the other table into the schema"},
        {"object_outside",
         references + "SELECT DISTINCT format('%s, needed by %s', pg_describe_object(refclassid, refobjid, 0), "
                      "pg_describe_object(classid, objid, 0)) FROM owned WHERE extension IS NULL "
                      "AND refclassid NOT IN ('pg_namespace'::regclass, 'pg_constraint'::regclass)",
         "an object outside the schema is needed by it and would be missing in the new database",
         "bring it into the tenant's schema, or into an extension"},
        {"used_from_outside", outside_users,
         "an object outside the schema uses it and would break when the tenant's data is gone from here",
         "drop it, or bring it into the tenant's schema"},
        {"extension_in_schema",
         "SELECT e.extname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE n.nspname = ANY ($1::text[])",
         "an extension is installed in the tenant's schema", "ALTER EXTENSION ... SET SCHEMA public"},
        {"trigger_always",
         "SELECT format('%s on %s', t.tgname, t.tgrelid::regclass) FROM pg_trigger t JOIN pg_class c ON c.oid = "
         "t.tgrelid "
         "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1::text[]) AND NOT t.tgisinternal AND t.tgenabled IN "
         "('A', 'R') "
         "AND t.tgname !~ '^pgporter_(back_)?fence_'",
         "a trigger that fires for replicated changes too would repeat its effects on the target",
         "ALTER TABLE ... ENABLE TRIGGER (without ALWAYS or REPLICA) for the time of the move"},
        {"rule_always",
         "SELECT format('%s on %s', r.rulename, r.ev_class::regclass) FROM pg_rewrite r JOIN pg_class c ON c.oid = "
         "r.ev_class "
         "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p') AND "
         "r.ev_enabled IN ('A', 'R')",
         "a rule that applies to replicated changes too would repeat its effects on the target",
         "ALTER TABLE ... ENABLE RULE (without ALWAYS or REPLICA) for the time of the move"},
        {"fence_left_over",
         "SELECT format('%s on %s', t.tgname, t.tgrelid::regclass) FROM pg_trigger t JOIN pg_class c ON c.oid = "
         "t.tgrelid "
         "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1::text[]) AND t.tgname ~ '^pgporter_(back_)?fence_'",
         "the fence of another move is on the table",
         "let that move end, or drop the trigger if no catalog knows that move"},
    };
    return findings;
}

const std::vector<Finding>& warnings() {
    static const std::vector<Finding> findings{
        {"oid_column",
         "SELECT format('%s.%s.%s', n.nspname, c.relname, a.attname) FROM pg_class c JOIN pg_namespace n ON n.oid = "
         "c.relnamespace "
         "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p') AND a.atttypid = 26",
         "an oid means something else in another database",
         "make sure that it isn't the number of a large object or of a table"},
        {"own_type",
         "SELECT DISTINCT format_type(a.atttypid, NULL) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
         "JOIN pg_type t ON t.oid = a.atttypid "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'v', 'm') AND a.atttypid >= 16384 AND t.typtype <> 'd' "
         "ORDER BY 1",
         "a type that isn't built in has another OID in another database: sessions that were told this one are ended "
         "(57P01) before their first transaction after the move",
         "nothing, if the applications connect again by themselves; else move the tenant at a quiet time"},
        {"long_transaction",
         "SELECT format('pid %s of %s in %s, since %s', pid, coalesce(usename, '?'), coalesce(datname, '?'), "
         "to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS')) FROM pg_stat_activity WHERE $1::text[] IS NOT NULL "
         "AND xact_start < now() - interval '5 minutes' AND backend_xid IS NOT NULL",
         "the move can't take its snapshot before this transaction ends", "end it"},
        {"published",
         "SELECT format('%s.%s in %s', schemaname, tablename, pubname) FROM pg_publication_tables WHERE schemaname = "
         "ANY ($1::text[])",
         "the table is in a publication, whose subscribers won't see what is written after the move",
         "make the publication again in the new database"},
        {"subscribed",
         "SELECT format('%s', s.srrelid::regclass) FROM pg_subscription_rel s JOIN pg_class c ON c.oid = s.srrelid "
         "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1::text[])",
         "a subscription writes to the table and doesn't move along",
         "make the subscription again in the new database"},
        {"materialized_view",
         "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind = 'm'",
         "a materialized view isn't copied but refreshed on the target, before the cutover",
         "refresh it again afterwards if it must be of that moment"},
        {"full_identity",
         "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE n.nspname = ANY ($1::text[]) AND c.relkind = 'r' AND c.relreplident = 'f'",
         "each update and delete of a table without a key reads the whole table on the target, and inside the pause it "
         "is compared as a whole",
         "add a primary key if the table is large and changes often"},
        {"tablespace",
         "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
         "WHERE n.nspname = ANY ($1::text[]) AND c.reltablespace <> 0",
         "its tablespace isn't kept: it is made in the target database's own", "move it afterwards"},
        {"database_settings",
         "SELECT format('%s%s', unnest(s.setconfig), CASE WHEN s.setrole = 0 THEN '' ELSE ' for ' || "
         "s.setrole::regrole END) "
         "FROM pg_db_role_setting s WHERE $1::text[] IS NOT NULL AND s.setdatabase = (SELECT oid FROM pg_database WHERE "
         "datname = current_database())",
         "a setting of the source database isn't carried over",
         "ALTER DATABASE ... SET it in the new database, or in the tenant's settings"},
        {"database_privileges",
         "SELECT datacl::text FROM pg_database WHERE $1::text[] IS NOT NULL AND datname = current_database() AND datacl "
         "IS NOT NULL",
         "privileges on the source database aren't carried over",
         "GRANT them on the new database where they are needed"},
        {"extension_unused",
         references +
             "SELECT e.extname FROM pg_extension e WHERE e.oid >= 16384 AND e.oid NOT IN (SELECT extension FROM owned "
             "WHERE extension IS NOT NULL)",
         "an extension of the source database isn't made on the target, since nothing is known to need it",
         "CREATE EXTENSION in the new database if the bodies of the tenant's functions, or its queries, use it"},
    };
    return findings;
}

// Shared tables stay where they are: what others have built on them isn't in the way, nor the fences of other moves. The database's
// settings are carried over: its search_path may be what finds the tables.
bool concerns_rows(std::string_view code) {
    return code != "database_settings" && code != "used_from_outside" && code != "extension_in_schema" && code != "fence_left_over" &&
           code != "foreign_key_outside";
}

Result<void> look(ServerSession& source, const MoveServers& servers, const std::vector<Finding>& findings, std::vector<MoveBlocker>& found) {
    for (const auto& finding : findings) {
        if (servers.rows() != nullptr && !concerns_rows(finding.code)) continue;
        auto rows = source.exec(finding.query, {servers.schemas().as_array()});
        if (!rows) {
            auto error = rows.error();
            error.message = std::string("preflight check ") + finding.code + ": " + error.message;
            return error;
        }
        for (int row = 0; row < rows->count(); ++row)
            found.push_back({finding.code, rows->string(row, 0), finding.message, finding.remedy});
    }
    return {};
}

}  // namespace

Result<std::vector<NeededExtension>> read_needed_extensions(ServerSession& source, const SchemaList& schemas) {
    auto rows = source.exec(references +
                                "SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON "
                                "n.oid = e.extnamespace "
                                "WHERE e.oid IN (SELECT extension FROM owned) ORDER BY e.oid",
                            {schemas.as_array()});
    if (!rows) return rows.error();
    std::vector<NeededExtension> extensions;
    for (int row = 0; row < rows->count(); ++row)
        extensions.push_back({rows->string(row, 0), rows->string(row, 1), rows->string(row, 2)});
    return extensions;
}

Result<std::vector<std::string>> read_outside_users(ServerSession& source, const SchemaList& schemas) {
    auto rows = source.exec(outside_users, {schemas.as_array()});
    if (!rows) return rows.error();
    std::vector<std::string> users;
    for (int row = 0; row < rows->count(); ++row) users.push_back(rows->string(row, 0));
    return users;
}

Result<std::vector<std::string>> read_needed_roles(ServerSession& source, const SchemaList& schemas) {
    // The bootstrap superuser isn't in pg_shdepend: owners are read directly too.
    auto rows = source.exec(members + R"sql(SELECT rolname FROM pg_roles WHERE oid IN (
  SELECT s.refobjid FROM members m JOIN pg_shdepend s ON s.classid = m.classid AND s.objid = m.objid
   WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND s.refclassid = 'pg_authid'::regclass
  UNION SELECT s.refobjid FROM pg_shdepend s WHERE s.classid = 'pg_namespace'::regclass
      AND s.objid IN (SELECT oid FROM ns)
    AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND s.refclassid = 'pg_authid'::regclass
  UNION SELECT nspowner FROM pg_namespace WHERE oid IN (SELECT oid FROM ns)
  UNION SELECT relowner FROM pg_class WHERE relnamespace IN (SELECT oid FROM ns)
  UNION SELECT proowner FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ns)
  UNION SELECT typowner FROM pg_type WHERE typnamespace IN (SELECT oid FROM ns)) ORDER BY 1)sql",
                            {schemas.as_array()});
    if (!rows) return rows.error();
    std::vector<std::string> roles;
    for (int row = 0; row < rows->count(); ++row) roles.push_back(rows->string(row, 0));
    return roles;
}

Result<void> check_source_schema(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    PP_TRY(look(source, servers, blockers(), report.blockers));
    PP_TRY(look(source, servers, warnings(), report.warnings));
    if (servers.shared_source()) return check_shared_rows(source, servers, report);
    auto tables = read_tables(source, servers.schemas());
    if (!tables) return tables.error();
    for (const auto& table : *tables) {
        if (table.partitioned) continue;
        ++report.tables;
        report.rows_estimate += table.rows_estimate;
        report.bytes += table.bytes;
    }
    return {};
}

}  // namespace pgporter
