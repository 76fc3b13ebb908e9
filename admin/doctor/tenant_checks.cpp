// The tenants themselves: their schemas, and in isolation role and login their roles.
#include "admin/doctor/checks.hpp"
#include "catalog/server_access.hpp"

namespace pgporter {
namespace {

struct Check {
    Severity severity;
    const char* code;
    const char* sql;
};

// $1 names, $2 roles, $3 schemas ('' for none), of the tenants in one order; $4 the logins. One finding a row: object, reason, remedy.
constexpr const char* tenants_with = R"sql(
WITH tenants AS (
  SELECT x.name, x.role, x.schema, n.oid AS namespace, r.oid AS role_oid, r.rolsuper, r.rolbypassrls, r.rolcanlogin
    FROM unnest($1::text[], $2::text[], $3::text[]) AS x (name, role, schema)
    LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = x.schema AND x.schema <> ''
    LEFT JOIN pg_catalog.pg_roles r ON r.rolname = x.role AND x.role <> ''),
logins AS (SELECT r.oid, r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($4::text[]) AND NOT r.rolsuper)
)sql";

constexpr Check schema_checks[] = {
    {Severity::blocker, "schema_missing", R"sql(
SELECT name, 'its schema ' || pg_catalog.quote_ident(schema) || ' doesn''t exist',
       'CREATE SCHEMA ' || pg_catalog.quote_ident(schema) || ', or correct its placement'
  FROM tenants WHERE schema <> '' AND namespace IS NULL ORDER BY 1)sql"},
};

constexpr Check role_checks[] = {
    {Severity::blocker, "role_missing", R"sql(
SELECT name, CASE role WHEN '' THEN 'it has no role' ELSE 'its role ' || pg_catalog.quote_ident(role) || ' doesn''t exist' END,
       'create a role for the tenant and name it in tenants.yaml'
  FROM tenants WHERE role_oid IS NULL ORDER BY 1)sql"},
    {Severity::blocker, "role_superuser", R"sql(
SELECT name, 'its role ' || pg_catalog.quote_ident(role) || ' is a superuser', 'ALTER ROLE ' || pg_catalog.quote_ident(role) || ' NOSUPERUSER'
  FROM tenants WHERE rolsuper ORDER BY 1)sql"},
    {Severity::blocker, "role_bypassrls", R"sql(
SELECT name, 'its role ' || pg_catalog.quote_ident(role) || ' has BYPASSRLS', 'ALTER ROLE ' || pg_catalog.quote_ident(role) || ' NOBYPASSRLS'
  FROM tenants WHERE rolbypassrls AND NOT rolsuper ORDER BY 1)sql"},
    {Severity::blocker, "role_without_schema", R"sql(
SELECT name, 'its role ' || pg_catalog.quote_ident(role) || ' may not use its own schema ' || pg_catalog.quote_ident(schema),
       'GRANT USAGE ON SCHEMA ' || pg_catalog.quote_ident(schema) || ' TO ' || pg_catalog.quote_ident(role)
  FROM tenants
 WHERE role_oid IS NOT NULL AND namespace IS NOT NULL AND NOT pg_catalog.has_schema_privilege(role_oid, namespace, 'USAGE') ORDER BY 1)sql"},
    {Severity::blocker, "role_reaches_tenant", R"sql(
SELECT a.name, 'its role ' || pg_catalog.quote_ident(a.role) || ' may use the schema ' || pg_catalog.quote_ident(b.schema) || ' of tenant ' || b.name,
       'REVOKE USAGE ON SCHEMA ' || pg_catalog.quote_ident(b.schema) || ' FROM ' || pg_catalog.quote_ident(a.role) || ', and from PUBLIC'
  FROM tenants a JOIN tenants b ON b.name <> a.name AND b.namespace IS NOT NULL AND b.namespace IS DISTINCT FROM a.namespace
 WHERE a.role_oid IS NOT NULL AND NOT a.rolsuper AND pg_catalog.has_schema_privilege(a.role_oid, b.namespace, 'USAGE') ORDER BY 1, b.name)sql"},
    {Severity::blocker, "role_is_member", R"sql(
SELECT a.name,
       'its role ' || pg_catalog.quote_ident(a.role) || ' is a member of ' || pg_catalog.quote_ident(b.role) || ', the role of tenant ' || b.name,
       'REVOKE ' || pg_catalog.quote_ident(b.role) || ' FROM ' || pg_catalog.quote_ident(a.role)
  FROM tenants a JOIN tenants b ON b.name <> a.name AND b.role_oid IS NOT NULL AND b.role_oid <> a.role_oid
 WHERE a.role_oid IS NOT NULL AND NOT a.rolsuper AND pg_catalog.pg_has_role(a.role_oid, b.role_oid, 'MEMBER') ORDER BY 1, b.name)sql"},
};

constexpr Check set_role_checks[] = {
    {Severity::blocker, "role_not_granted", R"sql(
SELECT t.name, 'login ' || pg_catalog.quote_ident(l.rolname) || ' may not SET ROLE to its role ' || pg_catalog.quote_ident(t.role),
       'GRANT ' || pg_catalog.quote_ident(t.role) || ' TO ' || pg_catalog.quote_ident(l.rolname)
  FROM tenants t, logins l WHERE t.role_oid IS NOT NULL AND NOT pg_catalog.pg_has_role(l.oid, t.role_oid, 'MEMBER') ORDER BY 1, l.rolname)sql"},
    {Severity::warning, "login_inherits_role", R"sql(
SELECT t.name, 'login ' || pg_catalog.quote_ident(l.rolname) || ' inherits the rights of its role ' || pg_catalog.quote_ident(t.role) ||
       ': SQL that leaves the role where pgporter can''t see it has every tenant''s rights at once',
       'ALTER ROLE ' || pg_catalog.quote_ident(l.rolname) || ' NOINHERIT; from PostgreSQL 16 on GRANT ... WITH INHERIT FALSE'
  FROM tenants t, logins l
 WHERE t.role_oid IS NOT NULL AND pg_catalog.pg_has_role(l.oid, t.role_oid, 'USAGE') AND l.oid <> t.role_oid ORDER BY 1, l.rolname)sql"},
};

constexpr Check login_checks[] = {
    {Severity::blocker, "role_cannot_login", R"sql(
SELECT name, 'its role ' || pg_catalog.quote_ident(role) || ' may not log in',
       'ALTER ROLE ' || pg_catalog.quote_ident(role) || ' LOGIN, with a password'
  FROM tenants WHERE role_oid IS NOT NULL AND NOT rolcanlogin ORDER BY 1)sql"},
};

template <std::size_t count>
Result<void> run(PgConnection& sql, const Check (&checks)[count], const PgParams& params, Findings& findings) {
    for (const auto& check : checks) {
        const auto rows = sql.exec_params(std::string(tenants_with) + check.sql, params);
        if (!rows) return rows.error();
        findings.add_rows(check.severity, check.code, *rows);
    }
    return {};
}

void check_server_logins(const Patient& patient, Findings& findings) {
    std::size_t missing = 0;
    for (const auto& tenant : patient.tenants) {
        if (tenant->role.empty() || find_server_login(patient.config, patient.database.cluster, tenant->role) != nullptr) continue;
        if (++missing > findings_of_a_kind_max) return;
        findings.add(Severity::blocker, "server_login_missing", tenant->name, "pgporter has no password for its role " + quote_ident(tenant->role),
                     "add the role to server_logins in pgporter.yaml");
    }
}

}  // namespace

Result<void> check_tenants(PgConnection& sql, const Patient& patient, Findings& findings) {
    std::vector<std::string> names;
    std::vector<std::string> roles;
    std::vector<std::string> schemas;
    for (const auto& tenant : patient.tenants) {
        names.push_back(tenant->name);
        roles.push_back(tenant->role);
        schemas.push_back(tenant->placement.kind == PlacementKind::schema ? tenant->placement.schema : "");
    }
    const PgParams params{to_array_literal(names), to_array_literal(roles), to_array_literal(schemas), to_array_literal(patient.logins)};
    PP_TRY(run(sql, schema_checks, params, findings));
    if (patient.database.isolation == Isolation::app) return {};
    PP_TRY(run(sql, role_checks, params, findings));
    if (patient.database.isolation == Isolation::role) return run(sql, set_role_checks, params, findings);
    check_server_logins(patient, findings);
    return run(sql, login_checks, params, findings);
}

}  // namespace pgporter
