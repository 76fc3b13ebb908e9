// What leads around the policies of shared tables: views, copies, foreign tables, functions that run as somebody else, and rights that row-level
// security doesn't know of.
#include "admin/doctor/checks.hpp"

namespace pgporter {
namespace {

// Views upon views: `reads_as` is whose rights the table is read with, null: the caller's. `copied`: a materialized view lies between.
constexpr const char* views_with = R"sql(,
relations AS (
  SELECT DISTINCT w.ev_class AS oid, d.refobjid AS reads, v.relkind, v.relowner,
         v.relkind = 'v' AND coalesce(v.reloptions::text ~* 'security_invoker=(true|on|1|yes)', false) AS as_caller
    FROM pg_catalog.pg_rewrite w
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> w.ev_class
    JOIN pg_catalog.pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')),
views (oid, source, reads_as, copied) AS (
  SELECT * FROM (
    WITH RECURSIVE upon (oid, source, reads_as, copied, depth) AS (
      SELECT r.oid, t.oid, CASE WHEN NOT r.as_caller THEN r.relowner END, r.relkind = 'm', 1 FROM relations r JOIN tables t ON t.oid = r.reads
       WHERE t.has_column AND NOT t.is_global
      UNION
      SELECT r.oid, u.source, coalesce(u.reads_as, CASE WHEN NOT r.as_caller THEN r.relowner END), u.copied OR r.relkind = 'm', u.depth + 1
        FROM relations r JOIN upon u ON u.oid = r.reads WHERE u.depth < 20)
    SELECT DISTINCT oid, source, reads_as, copied FROM upon) AS found)
)sql";

constexpr TableCheck bypass_checks[] = {
    {Severity::blocker, "view_bypasses", R"sql(
SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname),
       CASE WHEN v.copied THEN 'the materialized view' || CASE c.relkind WHEN 'm' THEN '' ELSE ' below this view' END || ' keeps rows of ' ||
              t.name || ' that no policy covers'
            ELSE 'the view reads ' || t.name || ' as ' || pg_catalog.quote_ident(o.rolname) || ', whom row-level security doesn''t bind' END,
       CASE WHEN v.copied THEN 'take its privileges from the application and from tenants'
            ELSE 'WITH (security_invoker = true) from PostgreSQL 15 on, or give it an owner whom policies bind' END
  FROM views v JOIN tables t ON t.oid = v.source JOIN pg_catalog.pg_class c ON c.oid = v.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_roles o ON o.oid = v.reads_as
 WHERE EXISTS (SELECT FROM who WHERE pg_catalog.has_table_privilege(who.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
                                  OR pg_catalog.has_any_column_privilege(who.oid, c.oid, 'SELECT, INSERT, UPDATE'))
   AND (v.copied OR o.rolsuper OR o.rolbypassrls OR (NOT t.relforcerowsecurity AND pg_catalog.pg_has_role(o.oid, t.relowner, 'USAGE')))
 ORDER BY 1)sql"},
    {Severity::blocker, "foreign_table", R"sql(
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), 'the foreign table has the tenant column, and foreign tables know no row-level security',
       'take its privileges from the application and from tenants, or show it by a view WITH (security_barrier) that compares the tenant column'
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relkind = 'f' AND EXISTS (SELECT FROM who WHERE pg_catalog.has_table_privilege(who.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
                                                       OR pg_catalog.has_any_column_privilege(who.oid, c.oid, 'SELECT, INSERT, UPDATE'))
 ORDER BY 1)sql"},
    {Severity::warning, "function_bypasses", R"sql(
SELECT pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
       'the function runs as ' || pg_catalog.quote_ident(o.rolname) || ', whom row-level security doesn''t bind: who may call it sees what it reads',
       'SECURITY INVOKER, an owner whom policies bind, or REVOKE EXECUTE from PUBLIC and from the application'
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
 WHERE p.prosecdef AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgporter')
   AND p.prorettype NOT IN ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
   AND EXISTS (SELECT FROM who WHERE pg_catalog.has_function_privilege(who.oid, p.oid, 'EXECUTE'))
   AND (o.rolsuper OR o.rolbypassrls OR EXISTS (
        SELECT FROM tables t WHERE t.has_column AND NOT t.is_global AND pg_catalog.pg_has_role(o.oid, t.relowner, 'USAGE')
           AND NOT (t.relrowsecurity AND t.relforcerowsecurity))) ORDER BY 1)sql"},
    {Severity::blocker, "truncate_granted", R"sql(
SELECT t.name, 'TRUNCATE is granted to ' || string_agg(pg_catalog.quote_ident(w.rolname), ', ' ORDER BY w.rolname) ||
       ': it removes every tenant''s rows, whatever the policies say', 'REVOKE TRUNCATE ON ' || t.name || ' FROM these, and from PUBLIC'
  FROM tables t JOIN who w ON pg_catalog.has_table_privilege(w.oid, t.oid, 'TRUNCATE')
  JOIN pg_catalog.pg_roles r ON r.oid = w.oid AND NOT r.rolsuper
 WHERE t.has_column AND NOT t.is_global AND NOT t.owned GROUP BY t.name ORDER BY 1)sql"},
    {Severity::blocker, "login_may_become", R"sql(
SELECT n.rolname, 'the login is a member of ' || pg_catalog.quote_ident(r.rolname) ||
       CASE WHEN r.rolsuper THEN ', a superuser' WHEN r.rolbypassrls THEN ', which has BYPASSRLS' WHEN r.rolreplication THEN ', which may replicate'
            ELSE ', which reads or writes what it likes on the server''s machine' END || ': SET ROLE leads around every policy',
       'REVOKE ' || pg_catalog.quote_ident(r.rolname) || ' FROM ' || pg_catalog.quote_ident(n.rolname)
  FROM named n JOIN pg_catalog.pg_roles r ON r.oid <> n.oid AND NOT n.rolsuper AND pg_catalog.pg_has_role(n.oid, r.oid, 'MEMBER')
 WHERE r.rolsuper OR r.rolbypassrls OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
 ORDER BY 1, r.rolname)sql"},
    {Severity::warning, "login_replicates", R"sql(
SELECT n.rolname, 'the login has REPLICATION: it may read every tenant''s changes and files from the server itself',
       'ALTER ROLE ' || pg_catalog.quote_ident(n.rolname) || ' NOREPLICATION'
  FROM named n JOIN pg_catalog.pg_roles r ON r.oid = n.oid AND r.rolreplication AND NOT r.rolsuper ORDER BY 1)sql"},
};

}  // namespace

Result<void> check_bypasses(PgConnection& sql, const Patient& patient, Findings& findings) {
    const PgParams params = table_params(patient);
    for (const auto& check : bypass_checks) {
        const std::string typed = ", typed AS (SELECT $1::text, $2::text[], $3::text[], $4::text[])";
        const auto rows = sql.exec_params(std::string(shared_tables_with) + views_with + typed + check.sql, params);
        if (!rows) return rows.error();
        findings.add_rows(check.severity, check.code, *rows);
    }
    return {};
}

}  // namespace pgporter
