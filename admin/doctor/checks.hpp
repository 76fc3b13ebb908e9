// The parts of the doctor: each looks at one kind of thing and adds what it finds. Pure but for the one connection that they read from.
#pragma once

#include <string>
#include <vector>

#include "admin/doctor/doctor.hpp"
#include "catalog/pg_connection.hpp"

namespace pgporter {

// What is examined; everything the checks need to know of the catalog.
struct Patient {
    const Config& config;
    Database database;                // as in the catalog; defaults where it has no entry
    std::vector<TenantPtr> tenants;   // that live there, by name
    std::vector<std::string> logins;  // as whom server connections log in: the application's users, or (isolation login) the tenants' roles
    [[nodiscard]] bool has_rows() const;           // row-level security is what keeps tenants apart there
    [[nodiscard]] std::vector<std::string> schemas() const;  // the tenants' own
};

constexpr std::size_t findings_of_a_kind_max = 100;  // of one check; then a last one says how many more there are

class Findings {
  public:
    explicit Findings(std::vector<Finding>& out) : out_(out) {}
    void add(Severity severity, std::string code, std::string object, std::string reason, std::string remedy);
    // One finding a row: {object, reason, remedy}.
    void add_rows(Severity severity, const std::string& code, const PgResult& rows);

  private:
    std::vector<Finding>& out_;
};

// One finding a row: object, reason, remedy.
struct TableCheck {
    Severity severity;
    const char* code;
    const char* sql;
};

// The shared tables, as WITH queries `named` (logins and tenants' roles), `who` (these, and every role that they may become) and `tables`. $1 the
// tenant column, $2 the tenants' own schemas, $3 the logins, $4 the tenants' roles: table_params(). A partition or an inheriting table counts
// only where somebody may use it directly. A table whose comment says "pgporter: global" is meant to be everybody's.
extern const char* const shared_tables_with;
[[nodiscard]] PgParams table_params(const Patient& patient);

[[nodiscard]] Result<void> check_logins(PgConnection& sql, const Patient& patient, Findings& findings);
[[nodiscard]] Result<void> check_tables(PgConnection& sql, const Patient& patient, DoctorReport& report, Findings& findings);
[[nodiscard]] Result<void> check_policies(PgConnection& sql, const Patient& patient, Findings& findings);
[[nodiscard]] Result<void> check_bypasses(PgConnection& sql, const Patient& patient, Findings& findings);
[[nodiscard]] Result<void> check_tenants(PgConnection& sql, const Patient& patient, Findings& findings);

}  // namespace pgporter
