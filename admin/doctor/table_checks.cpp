// Shared tables: row-level security on each that has the tenant column, and a policy that lets somebody in.
#include "admin/doctor/checks.hpp"

namespace pgporter {
namespace {

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
    {Severity::warning, "table_without_column", R"sql(
SELECT name, 'the table has no tenant column: every tenant sees all of it',
       'if that is meant: COMMENT ON TABLE ' || name || ' IS ''pgporter: global''; else add the column and a policy'
  FROM tables WHERE NOT has_column AND NOT is_global ORDER BY 1)sql"},
};

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
    const PgParams params = table_params(patient);
    const auto count = sql.exec_params(std::string(shared_tables_with) + "SELECT count(*) FROM tables WHERE has_column", params);
    if (!count) return count.error();
    report.tables = count->unsigned_integer(0, 0);
    if (report.tables == 0) {
        findings.add(Severity::blocker, "no_tenant_table", database.name,
                     "no shared table has the tenant column " + quote_ident(database.tenant_column),
                     "correct the database's tenant_column in tenants.yaml");
    }
    for (const auto& check : table_checks) {
        const auto rows = sql.exec_params(std::string(shared_tables_with) + check.sql, params);
        if (!rows) return rows.error();
        findings.add_rows(check.severity, check.code, *rows);
    }
    return {};
}

}  // namespace pgporter
