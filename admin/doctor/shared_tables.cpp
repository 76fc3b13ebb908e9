// What the checks of shared tables have in common: which tables these are, and who may get at them.
#include "admin/doctor/checks.hpp"

namespace pgporter {

const char* const shared_tables_with = R"sql(
WITH named AS (SELECT r.oid, r.rolname, r.rolsuper, r.rolname = ANY ($3::text[]) AS is_login
                 FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($3::text[] || $4::text[])),
who AS (SELECT DISTINCT r.oid, r.rolname FROM named n JOIN pg_catalog.pg_roles r
            ON r.oid = n.oid OR (NOT n.rolsuper AND pg_catalog.pg_has_role(n.oid, r.oid, 'MEMBER'))),
tables AS (
  SELECT c.oid, c.relowner, c.relrowsecurity, c.relforcerowsecurity, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relname,
         EXISTS (SELECT FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped) AS has_column,
         coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') ~* 'pgporter: *global' AS is_global,
         EXISTS (SELECT FROM named l WHERE l.is_login AND pg_catalog.pg_has_role(l.oid, c.relowner, 'MEMBER')) AS owned
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     AND NOT n.nspname = ANY ($2::text[])
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
     AND (NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
          OR EXISTS (SELECT FROM who w WHERE pg_catalog.has_table_privilege(w.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
                                          OR pg_catalog.has_any_column_privilege(w.oid, c.oid, 'SELECT, INSERT, UPDATE'))))
)sql";

PgParams table_params(const Patient& patient) {
    std::vector<std::string> roles;
    for (const auto& tenant : patient.tenants) {
        if (!tenant->role.empty()) roles.push_back(tenant->role);
    }
    return {patient.database.tenant_column, to_array_literal(patient.schemas()), to_array_literal(patient.logins), to_array_literal(roles)};
}

}  // namespace pgporter
