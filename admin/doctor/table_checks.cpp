// Shared tables: row-level security on each that has the tenant column, and what goes around it.
#include "admin/doctor/checks.hpp"

namespace pgporter {
namespace {

// $1 the tenant column, $2 the tenants' own schemas, $3 the logins, $4 the tenants' roles. The tables in shared schemas; a partition only
// where somebody may use it directly. A table whose comment says "pgporter: global" is meant to be everybody's.
constexpr const char* tables_with = R"sql(
WITH who AS (SELECT r.oid, r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($3::text[] || $4::text[])),
tables AS (
  SELECT c.oid, c.relowner, c.relrowsecurity, c.relforcerowsecurity, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
         EXISTS (SELECT FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped) AS has_column,
         coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') ~* 'pgporter: *global' AS is_global,
         EXISTS (SELECT FROM who w WHERE w.rolname = ANY ($3::text[]) AND pg_catalog.pg_has_role(w.oid, c.relowner, 'USAGE')) AS owned
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     AND NOT n.nspname = ANY ($2::text[])
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
     AND (NOT c.relispartition OR EXISTS (SELECT FROM who w WHERE pg_catalog.has_table_privilege(w.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE'))))
)sql";

// One finding a row: object, reason, remedy.
struct TableCheck {
    Severity severity;
    const char* code;
    const char* sql;
};

constexpr TableCheck table_checks[] = {
    {Severity::blocker, "rls_disabled", R"sql(
SELECT name, 'the table has the tenant column, but row-level security is not enabled: everybody sees all rows',
       'ALTER TABLE ' || name || ' ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, and create a policy'
  FROM tables WHERE has_column AND NOT is_global AND NOT relrowsecurity ORDER BY 1)sql"},
    {Severity::blocker, "owner_not_forced", R"sql(
SELECT name, 'the application''s login owns the table (or may act as its owner) and row-level security is not forced: it sees all rows',
       'ALTER TABLE ' || name || ' FORCE ROW LEVEL SECURITY, and let another role own the table'
  FROM tables WHERE has_column AND NOT is_global AND relrowsecurity AND NOT relforcerowsecurity AND owned ORDER BY 1)sql"},
    {Severity::warning, "rls_not_forced", R"sql(
SELECT name, 'row-level security is not forced: whoever acts as the table''s owner sees all rows',
       'ALTER TABLE ' || name || ' FORCE ROW LEVEL SECURITY'
  FROM tables WHERE has_column AND NOT is_global AND relrowsecurity AND NOT relforcerowsecurity AND NOT owned ORDER BY 1)sql"},
    {Severity::warning, "login_owns_table", R"sql(
SELECT name, 'the application''s login owns the table (or may act as its owner): it can switch row-level security off',
       'let another role own the table'
  FROM tables WHERE has_column AND NOT is_global AND relforcerowsecurity AND owned ORDER BY 1)sql"},
    {Severity::blocker, "no_policy", R"sql(
SELECT name, 'row-level security is enabled, but there is no policy: nobody sees any row', 'CREATE POLICY ... ON ' || name
  FROM tables t WHERE has_column AND NOT is_global AND relrowsecurity
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = t.oid AND p.polpermissive) ORDER BY 1)sql"},
    {Severity::blocker, "policy_for_all", R"sql(
SELECT name, 'policy ' || pg_catalog.quote_ident(p.polname) || ' lets everybody it applies to see or write every row',
       'make the policy compare the tenant column, or drop it'
  FROM tables t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid
 WHERE has_column AND NOT is_global AND relrowsecurity AND p.polpermissive
   AND (pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true' OR pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) = 'true')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy r WHERE r.polrelid = t.oid AND NOT r.polpermissive AND r.polcmd = '*') ORDER BY 1)sql"},
    {Severity::blocker, "view_bypasses", R"sql(
SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, v.relname),
       CASE v.relkind WHEN 'm' THEN 'the materialized view keeps rows of ' || t.name || ' that no policy covers'
            ELSE 'the view reads ' || t.name || ' as its owner, whom row-level security doesn''t bind' END,
       CASE v.relkind WHEN 'm' THEN 'take its privileges from the application and from tenants'
            ELSE 'WITH (security_invoker = true) from PostgreSQL 15 on, or give it an owner whom policies bind' END
  FROM tables t
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = t.oid
   AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
  JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
  JOIN pg_catalog.pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm') JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
  JOIN pg_catalog.pg_roles o ON o.oid = v.relowner
 WHERE t.has_column AND NOT t.is_global
   AND EXISTS (SELECT FROM who WHERE pg_catalog.has_table_privilege(who.oid, v.oid, 'SELECT'))
   AND (v.relkind = 'm' OR (NOT coalesce(v.reloptions::text ~* 'security_invoker=(true|on|1|yes)', false)
        AND (o.rolsuper OR o.rolbypassrls OR (NOT t.relforcerowsecurity AND pg_catalog.pg_has_role(o.oid, t.relowner, 'USAGE')))))
 ORDER BY 1)sql"},
    {Severity::warning, "table_without_column", R"sql(
SELECT name, 'the table has no tenant column: every tenant sees all of it',
       'if that is meant: COMMENT ON TABLE ' || name || ' IS ''pgporter: global''; else add the column and a policy'
  FROM tables WHERE NOT has_column AND NOT is_global ORDER BY 1)sql"},
};

// A policy that reads neither the setting that pgporter sets nor a role's name keeps nobody apart by what pgporter knows.
constexpr const char* other_setting_sql = R"sql(
SELECT name, 'policy ' || pg_catalog.quote_ident(p.polname) || ' doesn''t read the tenant_setting ' || $5::text || ', nor a role',
       'use current_setting(' || pg_catalog.quote_literal($5::text) || ', true) in it, or correct tenant_setting'
  FROM tables t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid,
       LATERAL (SELECT coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), '')) AS x (text)
 WHERE has_column AND NOT is_global AND relrowsecurity AND p.polpermissive AND x.text <> 'true'
   AND pg_catalog.strpos(pg_catalog.lower(x.text), pg_catalog.lower($5::text)) = 0
   AND x.text !~* '(current|session)_user|\m(current_role|user)\M|pg_has_role'
   AND x.text !~ '\w\(' AND p.polroles = '{0}' ORDER BY 1)sql";

}  // namespace

Result<void> check_tables(PgConnection& sql, const Patient& patient, DoctorReport& report, Findings& findings) {
    if (!patient.has_rows()) return {};
    const Database& database = patient.database;
    if (database.tenant_column.empty()) {
        findings.add(Severity::warning, "no_tenant_column", database.name,
                     "tenants' rows live there, but the catalog doesn't say which column tells whose they are",
                     "set the database's tenant_column in tenants.yaml");
        return {};
    }
    std::vector<std::string> roles;
    for (const auto& tenant : patient.tenants) {
        if (!tenant->role.empty()) roles.push_back(tenant->role);
    }
    const PgParams params{database.tenant_column, to_array_literal(patient.schemas()), to_array_literal(patient.logins), to_array_literal(roles)};
    const auto count = sql.exec_params(std::string(tables_with) + "SELECT count(*) FROM tables WHERE has_column", params);
    if (!count) return count.error();
    report.tables = count->unsigned_integer(0, 0);
    if (report.tables == 0) {
        findings.add(Severity::blocker, "no_tenant_table", database.name,
                     "no shared table has the tenant column " + quote_ident(database.tenant_column),
                     "correct the database's tenant_column in tenants.yaml");
    }
    for (const auto& check : table_checks) {
        const auto rows = sql.exec_params(std::string(tables_with) + check.sql, params);
        if (!rows) return rows.error();
        findings.add_rows(check.severity, check.code, *rows);
    }
    if (database.tenant_setting.empty()) return {};
    PgParams with_setting = params;
    with_setting.emplace_back(database.tenant_setting);
    const auto rows = sql.exec_params(std::string(tables_with) + other_setting_sql, with_setting);
    if (!rows) return rows.error();
    findings.add_rows(Severity::warning, "policy_without_setting", *rows);
    return {};
}

}  // namespace pgporter
