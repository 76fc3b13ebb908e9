#include "admin/doctor/doctor.hpp"

#include <algorithm>
#include <set>

#include "admin/doctor/checks.hpp"
#include "admin/doctor/leak_test.hpp"
#include "catalog/server_access.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds answer_max{30'000};  // of one look at the server's catalogs

Result<Patient> find_patient(const Config& config, const Snapshot& snapshot, const DoctorRequest& request) {
    Patient patient{config, {request.cluster, request.database}, {}, {}};
    const Database* entry = snapshot.find_database(request.cluster, request.database);
    if (entry != nullptr) patient.database = *entry;
    snapshot.for_each_tenant([&](const TenantPtr& tenant) {
        const auto& placement = tenant->placement;
        if (placement.cluster == request.cluster && placement.database == request.database) patient.tenants.push_back(tenant);
    });
    if (entry == nullptr && patient.tenants.empty()) {
        return fail(ErrorKind::not_found, "the catalog has no database \"" + request.database + "\" on cluster \"" + request.cluster + "\"", {},
                    "list them: pgporter clusters, pgporter tenants");
    }
    std::sort(patient.tenants.begin(), patient.tenants.end(), [](const auto& a, const auto& b) { return a->name < b->name; });
    return patient;
}

// Any login will do that may read the system catalogs: the mover's, or one of the application's.
Result<PgConnection> connect(const Config& config, const Snapshot& snapshot, const Patient& patient, const std::vector<std::string>& users) {
    const Cluster* cluster = snapshot.find_cluster(patient.database.cluster);
    if (cluster == nullptr) return fail(ErrorKind::not_found, "there is no cluster named \"" + patient.database.cluster + "\"");
    std::vector<std::string> candidates;
    if (!config.mover.user.empty()) candidates.push_back(config.mover.user);
    candidates.insert(candidates.end(), users.begin(), users.end());
    Error last = fail(ErrorKind::invalid, "pgporter has no login for the cluster to look with", {},
                      "set mover.user, or name a login that server_logins has with --login");
    for (const auto& user : candidates) {
        if (find_server_login(config, cluster->name, user) == nullptr) continue;
        PgConnectOptions options;
        options.connect_timeout = config.mover.connect_timeout_ms;
        options.answer_timeout = answer_max;
        auto connection = PgConnection::connect(libpq_params(config, *cluster, patient.database.name, user, "doctor"), options);
        if (connection) return connection;
        last = connection.error();
    }
    return last;
}

// Of the users that were named, or that the catalog has, those whom the server knows.
Result<std::vector<std::string>> known_logins(PgConnection& sql, const std::vector<std::string>& wanted) {
    const auto rows =
        sql.exec_params("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[]) ORDER BY 1", {to_array_literal(wanted)});
    if (!rows) return rows.error();
    std::vector<std::string> names;
    for (int i = 0; i < rows->rows(); ++i) names.push_back(rows->string(i, 0));
    return names;
}

// Whatever has the tenant column and can be read: tables, their partitions, views, copies, foreign tables.
Result<std::vector<std::string>> tenant_tables(PgConnection& sql, const Patient& patient) {
    std::vector<std::string> tables;
    if (patient.database.tenant_column.empty()) return tables;
    constexpr const char* looked_at_max = "200";
    const auto rows = sql.exec_params(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' "
        "AND NOT n.nspname = ANY ($2::text[]) "
        "ORDER BY pg_catalog.array_position('{r,p,v,m,f}'::text[], c.relkind::text), 1 LIMIT $3::bigint",
        {patient.database.tenant_column, to_array_literal(patient.schemas()), looked_at_max});
    if (!rows) return rows.error();
    for (int i = 0; i < rows->rows(); ++i) tables.push_back(rows->string(i, 0));
    return tables;
}

}  // namespace

bool DoctorReport::ok() const {
    const bool blocked = std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.severity == Severity::blocker; });
    return !blocked && std::all_of(trials.begin(), trials.end(), [](const LeakTrial& t) { return t.failures.empty(); });
}

bool Patient::has_rows() const {
    return !database.tenant_column.empty() || std::any_of(tenants.begin(), tenants.end(), [](const TenantPtr& tenant) {
        return tenant->placement.kind == PlacementKind::rows;
    });
}

std::vector<std::string> Patient::schemas() const {
    std::set<std::string> names;
    for (const auto& tenant : tenants) {
        if (tenant->placement.kind == PlacementKind::schema) names.insert(tenant->placement.schema);
    }
    return {names.begin(), names.end()};
}

void Findings::add(Severity severity, std::string code, std::string object, std::string reason, std::string remedy) {
    out_.push_back({severity, std::move(code), std::move(object), std::move(reason), std::move(remedy)});
}

void Findings::add_rows(Severity severity, const std::string& code, const PgResult& rows) {
    const auto all = static_cast<std::size_t>(rows.rows());
    for (std::size_t i = 0; i < std::min(all, findings_of_a_kind_max); ++i) {
        const int row = static_cast<int>(i);
        add(severity, code, rows.string(row, 0), rows.string(row, 1), rows.string(row, 2));
    }
    if (all > findings_of_a_kind_max) {
        add(severity, code, "", std::to_string(all - findings_of_a_kind_max) + " more of the same", "mend those above and look again");
    }
}

Result<DoctorReport> examine_database(const Config& config, const Snapshot& snapshot, const DoctorRequest& request) {
    auto patient = find_patient(config, snapshot, request);
    if (!patient) return patient.error();
    std::vector<std::string> users = request.users;
    if (users.empty()) {
        for (const auto& [name, user] : snapshot.users()) users.push_back(name);
        std::sort(users.begin(), users.end());
    }
    auto sql = connect(config, snapshot, *patient, users);
    if (!sql) return sql.error();
    std::vector<std::string> wanted = users;
    if (patient->database.isolation == Isolation::login) {
        wanted.clear();
        for (const auto& tenant : patient->tenants) wanted.push_back(tenant->role);
    }
    auto logins = known_logins(*sql, wanted);
    if (!logins) return logins.error();
    patient->logins = *std::move(logins);

    DoctorReport report;
    report.cluster = request.cluster;
    report.database = request.database;
    report.isolation = patient->database.isolation;
    report.tenants = patient->tenants.size();
    Findings findings(report.findings);
    PP_TRY(check_logins(*sql, *patient, findings));
    PP_TRY(check_tables(*sql, *patient, report, findings));
    if (patient->has_rows() && !patient->database.tenant_column.empty()) {
        PP_TRY(check_policies(*sql, *patient, findings));
        PP_TRY(check_bypasses(*sql, *patient, findings));
    }
    PP_TRY(check_tenants(*sql, *patient, findings));
    std::stable_sort(report.findings.begin(), report.findings.end(),
                     [](const Finding& a, const Finding& b) { return a.severity < b.severity; });
    if (!request.self_test) return report;
    auto tables = tenant_tables(*sql, *patient);
    if (!tables) return tables.error();
    DoctorRequest trial = request;
    if (trial.self_test_user.empty() && !users.empty()) trial.self_test_user = users.front();
    report.trials = run_leak_test({*patient, trial, *std::move(tables), *snapshot.find_cluster(request.cluster)});
    return report;
}

}  // namespace pgporter
