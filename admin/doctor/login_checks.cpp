// As whom server connections log in: roles that PostgreSQL's own rules don't bind.
#include "admin/doctor/checks.hpp"

namespace pgporter {
namespace {

// Attributes of a role that are in force for whoever logs in as it.
constexpr const char* powers_sql = R"sql(
SELECT r.rolname, r.rolsuper, r.rolbypassrls, r.rolcreaterole
  FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1::text[]) ORDER BY 1)sql";

}  // namespace

Result<void> check_logins(PgConnection& sql, const Patient& patient, Findings& findings) {
    if (patient.logins.empty()) {
        findings.add(patient.database.isolation == Isolation::login ? Severity::warning : Severity::blocker, "no_login", patient.database.name,
                     "no login of the application is known, so that nothing can be said about its rights",
                     "name it with --login, or add it to users in tenants.yaml");
        return {};
    }
    const auto rows = sql.exec_params(powers_sql, {to_array_literal(patient.logins)});
    if (!rows) return rows.error();
    for (int i = 0; i < rows->rows(); ++i) {
        const std::string name = rows->string(i, 0);
        if (rows->boolean(i, 1)) {
            findings.add(Severity::blocker, "login_superuser", name, "the login is a superuser: no grant and no policy binds it",
                         "ALTER ROLE " + quote_ident(name) + " NOSUPERUSER");
            continue;
        }
        if (rows->boolean(i, 2)) {
            findings.add(patient.has_rows() ? Severity::blocker : Severity::warning, "login_bypassrls", name,
                         "the login has BYPASSRLS: row-level security doesn't bind it", "ALTER ROLE " + quote_ident(name) + " NOBYPASSRLS");
        }
        if (rows->boolean(i, 3) && patient.database.isolation != Isolation::app) {
            findings.add(Severity::warning, "login_createrole", name, "the login has CREATEROLE and may make itself a member of tenants' roles",
                         "ALTER ROLE " + quote_ident(name) + " NOCREATEROLE");
        }
    }
    return {};
}

}  // namespace pgporter
