// The policies of shared tables: does each of them tell tenants apart, by something that a client can't choose? A policy is an expression, and
// this is no theorem prover: what it can't judge it leaves to the self-test.
#include <algorithm>

#include "admin/doctor/checks.hpp"
#include "catalog/setting_name.hpp"

namespace pgporter {
namespace {

// $5 the tenant setting ('' for none), $6 all settings that pgporter watches, in lower case, $7 the isolation. `reads_who`: the role or the
// tenant setting. Permissive policies are OR-ed: each one counts alone. One whose comment says "pgporter: shared" is meant to let others in.
constexpr const char* policies_with = R"sql(,
policies AS (
  SELECT t.oid, t.name, p.polname, p.polcmd, p.polroles, x.qual, x.checks, x.text,
         pg_catalog.strpos(x.text, pg_catalog.quote_ident($1)) > 0 OR x.text ~ ('\m' || pg_catalog.quote_ident(t.relname) || '\.\*') AS reads_column,
         ($5::text <> '' AND pg_catalog.strpos(pg_catalog.lower(x.text), pg_catalog.lower($5::text)) > 0)
           OR x.text ~* '(current|session)_user|\m(current_role|user)\M|pg_has_role' AS reads_who,
         x.text ~* '\m(?!current_setting\()(?!coalesce\()(?!nullif\()\w+\(' AS calls, x.text ~* '\mselect\M' AS selects
    FROM tables t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid,
         LATERAL (SELECT coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '') AS qual,
                         coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), '') AS checks,
                         coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '') || ' ' ||
                         coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), '') AS text) AS x
   WHERE t.has_column AND NOT t.is_global AND t.relrowsecurity AND p.polpermissive
     AND coalesce(pg_catalog.obj_description(p.oid, 'pg_policy'), '') !~* 'pgporter: *shared'
     AND (p.polroles = '{0}' OR EXISTS (SELECT FROM who w WHERE w.oid = ANY (p.polroles)))
     -- A restrictive policy for everybody that tells tenants apart makes up for any permissive one.
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy r
                      WHERE r.polrelid = t.oid AND NOT r.polpermissive AND r.polcmd = '*' AND r.polroles = '{0}'
                        AND pg_catalog.strpos(pg_catalog.pg_get_expr(r.polqual, r.polrelid), pg_catalog.quote_ident($1)) > 0
                        AND pg_catalog.pg_get_expr(r.polqual, r.polrelid) !~* '\mor\M|is null|is not null'
                        AND (($5::text <> '' AND pg_catalog.strpos(pg_catalog.lower(pg_catalog.pg_get_expr(r.polqual, r.polrelid)),
                                                                   pg_catalog.lower($5::text)) > 0)
                             OR pg_catalog.pg_get_expr(r.polqual, r.polrelid) ~* '(current|session)_user')))
)sql";

constexpr TableCheck policy_checks[] = {
    {Severity::blocker, "policy_for_all", R"sql(
SELECT name, 'policy ' || pg_catalog.quote_ident(polname) || ' lets everybody it applies to see or write every row',
       'make the policy compare the tenant column, or drop it'
  FROM policies
 WHERE qual = 'true' OR checks = 'true' OR (NOT reads_who AND NOT calls AND NOT selects AND text !~ '''|\d' AND text !~* 'current_setting')
 ORDER BY 1)sql"},
    {Severity::blocker, "policy_without_column", R"sql(
SELECT name, 'policy ' || pg_catalog.quote_ident(polname) || ' lets rows through without looking at the tenant column: it is OR-ed to the others',
       'compare the tenant column in it, make it AS RESTRICTIVE, or, if it is meant: COMMENT ON POLICY ' || pg_catalog.quote_ident(polname) ||
       ' ON ' || name || ' IS ''pgporter: shared'''
  FROM policies WHERE NOT reads_column AND text <> ' ' AND qual <> 'true' AND checks <> 'true' AND (text ~ '''|\d' OR reads_who OR calls OR selects)
 ORDER BY 1)sql"},
    {Severity::blocker, "policy_by_other_setting", R"sql(
SELECT DISTINCT name, 'policy ' || pg_catalog.quote_ident(polname) || ' reads the parameter ' || s.found[1] || ', which any client may set',
       'compare the tenant_setting' || CASE $5::text WHEN '' THEN '' ELSE ' ' || $5::text END || ' instead, or a role'
  FROM policies, LATERAL pg_catalog.regexp_matches(text, 'current_setting\(''([^'']+)''', 'g') AS s (found)
 WHERE NOT pg_catalog.lower(s.found[1]) = ANY ($6::text[]) ORDER BY 1)sql"},
    {Severity::blocker, "policy_open_without_tenant", R"sql(
SELECT name, 'policy ' || pg_catalog.quote_ident(polname) || ' lets a session through whose tenant setting is empty or was never set',
       'compare ' || pg_catalog.quote_ident($1) || ' = nullif(current_setting(...), '''') and nothing else: NULL is nobody''s key'
  FROM policies
 WHERE text ~* '(current_setting|nullif)\(.{1,120}?\)\s*(is null|=\s*''''::text)' OR text ~* '(is null|=\s*''''::text)\)* or\M'
    OR text ~* ('coalesce\(.{0,20}(current_setting|nullif)\(.{1,120}?' || pg_catalog.quote_ident($1) || '\)')
    OR text ~* '\m(current_setting|nullif)\(.{1,120}?\) is not distinct from' OR text ~* 'is not distinct from .{0,20}\m(current_setting|nullif)\('
 ORDER BY 1)sql"},
    {Severity::warning, "policy_without_setting", R"sql(
SELECT name, 'policy ' || pg_catalog.quote_ident(polname) || ' doesn''t read the tenant_setting ' || $5::text || ', nor a role',
       'use current_setting(' || pg_catalog.quote_literal($5::text) || ', true) in it, or correct tenant_setting'
  FROM policies
 WHERE $5::text <> '' AND reads_column AND qual <> 'true' AND checks <> 'true' AND NOT reads_who AND NOT calls AND text ~ '''|\d'
   AND text !~* 'current_setting'
   AND (polroles = '{0}' OR ($7::text = 'app' AND EXISTS (SELECT FROM named l WHERE l.is_login AND EXISTS (
          SELECT FROM unnest(polroles) AS r (oid) WHERE pg_catalog.pg_has_role(l.oid, r.oid, 'USAGE'))))) ORDER BY 1)sql"},
    {Severity::warning, "command_without_policy", R"sql(
SELECT t.name, 'no policy lets anybody ' || string_agg(c.word, ', ' ORDER BY c.word) || ', although it is granted: row-level security refuses it',
       'CREATE POLICY ... FOR ALL (or for these commands), or take the grants back'
  FROM tables t, (VALUES ('a', 'INSERT'), ('w', 'UPDATE'), ('d', 'DELETE'), ('r', 'SELECT')) AS c (command, word)
 WHERE t.has_column AND NOT t.is_global AND t.relrowsecurity
   AND EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = t.oid AND p.polpermissive)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = t.oid AND p.polpermissive AND p.polcmd::text IN ('*', c.command))
   AND EXISTS (SELECT FROM who w WHERE pg_catalog.has_table_privilege(w.oid, t.oid, c.word)) GROUP BY t.name ORDER BY 1)sql"},
    {Severity::blocker, "setting_has_default", R"sql(
SELECT coalesce('role ' || pg_catalog.quote_ident(r.rolname), 'database ' || pg_catalog.quote_ident(d.datname), 'all roles'),
       'the tenant setting has a default there (' || c.entry || '): a session without a tenant is that tenant''s',
       'ALTER ROLE or ALTER DATABASE ... RESET ' || $5::text
  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
       unnest(s.setconfig) AS c (entry)
 WHERE $5::text <> '' AND pg_catalog.lower(c.entry) LIKE pg_catalog.lower($5::text) || '=_%'
   AND (s.setdatabase = 0 OR d.datname = pg_catalog.current_database()) AND (s.setrole = 0 OR EXISTS (SELECT FROM who w WHERE w.oid = s.setrole))
 ORDER BY 1)sql"},
};

// What pgporter looks at when a client sets it.
std::vector<std::string> watched_settings(const Patient& patient) {
    std::vector<std::string> settings{folded_setting_name(patient.database.tenant_setting), "role", "session_authorization"};
    if (patient.config.identify.sql) {
        settings.emplace_back("pgporter.tenant");
        for (const auto& name : patient.config.identify.tenant_settings) settings.push_back(folded_setting_name(name));
        for (const auto& json : patient.config.identify.json_settings) settings.push_back(folded_setting_name(json.name));
    }
    return settings;
}

}  // namespace

Result<void> check_policies(PgConnection& sql, const Patient& patient, Findings& findings) {
    const char* isolation = patient.database.isolation == Isolation::app ? "app" : "own";
    PgParams params = table_params(patient);
    params.emplace_back(patient.database.tenant_setting);
    params.emplace_back(to_array_literal(watched_settings(patient)));
    params.emplace_back(isolation);
    for (const auto& check : policy_checks) {
        // Every parameter has its type, whether the check uses it or not.
        const std::string typed = ", typed AS (SELECT $1::text, $2::text[], $3::text[], $4::text[], $5::text, $6::text[], $7::text)";
        const auto rows = sql.exec_params(std::string(shared_tables_with) + policies_with + typed + check.sql, params);
        if (!rows) return rows.error();
        findings.add_rows(check.severity, check.code, *rows);
    }
    return {};
}

}  // namespace pgporter
