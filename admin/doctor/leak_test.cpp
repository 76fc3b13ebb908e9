#include "admin/doctor/leak_test.hpp"

#include <algorithm>
#include <set>

#include "catalog/server_access.hpp"

namespace pgporter {
namespace {

constexpr std::uint32_t rounds_each = 20;
constexpr std::size_t failures_max = 20;  // of one trial: the first ones say it all
constexpr std::chrono::milliseconds answer_max{15'000};
constexpr std::string_view mark_setting = "pgporter_doctor.mark";

// What a session must see, from the catalog's point of view.
struct Expected {
    TenantPtr tenant;
    std::string role;          // of SET ROLE; "none" where there is none
    std::string session_user;
    std::string schema;        // the first of its path that exists; empty: not checked
    std::string setting_value;
};

Expected expected_of(const Patient& patient, const TenantPtr& tenant, const std::string& user) {
    Expected expected{tenant, tenant->role.empty() ? "none" : tenant->role, user, {}, {}};
    if (patient.database.isolation == Isolation::login) {
        expected.role = "none";
        expected.session_user = tenant->role;
    }
    if (tenant->placement.kind == PlacementKind::schema) expected.schema = tenant->placement.schema;
    if (!patient.database.tenant_setting.empty()) expected.setting_value = tenant_key(*tenant);
    return expected;
}

// No right to read it, a copy that was never filled, a foreign server that can't be asked.
bool is_nothing_to_see(std::string_view sqlstate) {
    return sqlstate == "42501" || sqlstate == "55000" || sqlstate.starts_with("HV") || sqlstate.starts_with("08");
}

class Trial {
  public:
    Trial(const LeakTest& test, LeakTrial& out) : test_(test), out_(out) {}

    void fail_with(const std::string& what) {
        if (out_.failures.size() < failures_max) out_.failures.push_back(what);
    }
    // One look at everything that says who the session is, while another session's mark must not be there.
    void look(PgConnection& session, const Expected& expected, std::set<int>& pids) {
        const std::string setting = test_.patient.database.tenant_setting;
        const auto row = session.exec_params(
            "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('role'), session_user, "
            "coalesce((pg_catalog.current_schemas(false))[1], ''), coalesce(pg_catalog.current_setting($1, true), ''), "
            "coalesce(pg_catalog.current_setting($2, true), '')",
            {setting.empty() ? std::string(mark_setting) : setting, std::string(mark_setting)});
        const std::string who = "tenant " + expected.tenant->name;
        if (!row) return fail_with(who + ": " + row.error().message);
        pids.insert(static_cast<int>(row->integer(0, 0)));
        compare(who, "role", row->text(0, 1), expected.role);
        compare(who, "session user", row->text(0, 2), expected.session_user);
        if (!expected.schema.empty()) compare(who, "schema", row->text(0, 3), expected.schema);
        if (!setting.empty()) compare(who, setting.c_str(), row->text(0, 4), expected.setting_value);
        const auto mark = row->string(0, 5);
        if (!mark.empty() && mark != expected.tenant->name) fail_with(who + " sees what the session of tenant " + mark + " has set");
    }
    // Rows of others; a table that the session may not read is none of its.
    void look_for_foreign_rows(PgConnection& session, const Expected& expected) {
        std::uint32_t read = 0;
        const std::string column = quote_ident(test_.patient.database.tenant_column);
        for (const auto& table : test_.tables) {
            const auto rows =
                session.exec_params("SELECT 1 FROM " + table + " WHERE " + column + "::text <> $1 LIMIT 1", {tenant_key(*expected.tenant)});
            read += rows ? 1 : 0;
            if (rows && !rows->empty()) fail_with("tenant " + expected.tenant->name + " sees rows of others in " + table);
            if (!rows && !is_nothing_to_see(rows.error().sqlstate)) {
                fail_with("tenant " + expected.tenant->name + ", " + table + ": " + rows.error().message);
            }
        }
        out_.tables_read = looked_ ? std::min(out_.tables_read, read) : read;
        looked_ = true;
    }
    // Where no parser sees it; whoever gets the server connection next must not find it.
    void leave_mark(PgConnection& session, const Expected& expected) {
        const std::string body = "BEGIN PERFORM pg_catalog.set_config(" + quote_literal(mark_setting) + ", " +
                                 quote_literal(expected.tenant->name) + ", false); END";
        const auto done = session.exec("DO LANGUAGE plpgsql " + quote_literal(body));
        if (!done) fail_with("tenant " + expected.tenant->name + ": " + done.error().message);
    }

  private:
    void compare(const std::string& who, const char* what, std::string_view seen, const std::string& wanted) {
        if (seen != wanted) fail_with(who + ": " + what + " is \"" + std::string(seen) + "\", not \"" + wanted + "\"");
    }

    const LeakTest& test_;
    LeakTrial& out_;
    bool looked_ = false;
};

Result<PgConnection> connect(const LeakTest& test, const TenantPtr& tenant) {
    const Config& config = test.patient.config;
    const auto& listener = config.listen.front();
    std::string address = listener.address;
    if (address == "0.0.0.0") address = "127.0.0.1";
    if (address == "::") address = "::1";
    LibpqParams params;
    params.keywords = {{"host", address},
                       {"port", std::to_string(listener.port)},
                       {"dbname", test.patient.database.name},
                       {"user", test.request.self_test_user},
                       {"sslmode", "prefer"},
                       {"gssencmode", "disable"},
                       {"connect_timeout", "10"},
                       {"application_name", "pgporter doctor"}};
    if (tenant) params.keywords.emplace_back("options", "-c pgporter.tenant=" + tenant->name);
    params.password = test.request.self_test_password;
    if (params.password.empty()) {
        const Secret* known = find_server_login(config, test.patient.database.cluster, test.request.self_test_user);
        if (known != nullptr) params.password = *known;
    }
    PgConnectOptions options;
    options.answer_timeout = answer_max;
    return PgConnection::connect(params, options);
}

std::uint32_t shared(const std::set<int>& a, const std::set<int>& b) {
    return static_cast<std::uint32_t>(std::count_if(a.begin(), a.end(), [&](int pid) { return b.contains(pid); }));
}

// Two connections, a tenant each, by turns.
LeakTrial named_at_login(const LeakTest& test, const std::vector<Expected>& pair) {
    LeakTrial out;
    out.way = "login";
    Trial trial(test, out);
    std::vector<PgConnection> sessions;
    for (const auto& expected : pair) {
        auto session = connect(test, expected.tenant);
        if (!session) {
            out.note = "tenant " + expected.tenant->name + " can't log in";
            trial.fail_with(out.note + ": " + session.error().message);
            return out;
        }
        sessions.push_back(*std::move(session));
    }
    out.ran = true;
    std::set<int> pids[2];
    for (; out.rounds < rounds_each && out.failures.size() < failures_max; ++out.rounds) {
        for (std::size_t i = 0; i < pair.size(); ++i) {
            trial.look(sessions[i], pair[i], pids[i]);
            if (out.rounds % 4 == i) trial.leave_mark(sessions[i], pair[i]);
            if (out.rounds % 10 == 0) trial.look_for_foreign_rows(sessions[i], pair[i]);
        }
    }
    out.shared_backends = shared(pids[0], pids[1]);
    return out;
}

// One connection that names first the one, then the other.
LeakTrial named_by_sql(const LeakTest& test, const std::vector<Expected>& pair) {
    LeakTrial out;
    out.way = "sql";
    Trial trial(test, out);
    auto session = connect(test, nullptr);
    if (!session) session = connect(test, pair[0].tenant);  // no home database; libpq doesn't tell the SQLSTATE of a failed login
    if (!session) {
        out.note = "the login failed";
        trial.fail_with(out.note + ": " + session.error().message);
        return out;
    }
    std::set<int> pids[2];
    for (; out.rounds < rounds_each && out.failures.size() < failures_max; ++out.rounds) {
        for (std::size_t i = 0; i < pair.size(); ++i) {
            const auto named = session->exec("SET pgporter.tenant = " + quote_literal(pair[i].tenant->name));
            if (!named && named.error().sqlstate == "0A000") {
                out.note = "this session can't name a tenant by SQL: " + named.error().message;
                return out;
            }
            if (!named) {
                trial.fail_with("SET pgporter.tenant to " + pair[i].tenant->name + ": " + named.error().message);
                continue;
            }
            out.ran = true;
            trial.look(*session, pair[i], pids[i]);
            if (out.rounds % 10 == 0) trial.look_for_foreign_rows(*session, pair[i]);
        }
    }
    out.shared_backends = shared(pids[0], pids[1]);
    return out;
}

// The application's login at the server itself, with the tenant setting unset, empty, and nobody's: policies must show it nothing.
LeakTrial named_nobody(const LeakTest& test) {
    LeakTrial out;
    out.way = "none";
    const Config& config = test.patient.config;
    const std::string& user = test.request.self_test_user;
    if (find_server_login(config, test.cluster.name, user) == nullptr) {
        out.note = "server_logins has no password for " + user;
        return out;
    }
    PgConnectOptions options;
    options.answer_timeout = answer_max;
    auto session = PgConnection::connect(libpq_params(config, test.cluster, test.patient.database.name, user, "doctor"), options);
    if (!session) {
        out.note = user + " can't log in at the server: " + session.error().message;
        return out;
    }
    out.ran = true;
    const std::string& setting = test.patient.database.tenant_setting;
    struct State {
        const char* value;  // null: as the session began
        const char* text;
    };
    for (const State& state : {State{nullptr, "unset"}, State{"", "empty"}, State{"pgporter doctor: nobody", "nobody's key"}}) {
        if (state.value != nullptr) {
            if (setting.empty()) break;
            const auto set = session->exec_params("SELECT pg_catalog.set_config($1, $2, false)", {setting, std::string(state.value)});
            if (!set) out.failures.push_back(user + ": " + set.error().message);
        }
        std::uint32_t read = 0;
        for (const auto& table : test.tables) {
            const auto rows = session->exec("SELECT 1 FROM " + table + " LIMIT 1");  // a policy may well fail here: that shows nothing either
            read += rows ? 1 : 0;
            const std::string who = setting.empty() ? "without a tenant" : "with " + setting + " " + state.text;
            if (rows && !rows->empty() && out.failures.size() < failures_max) {
                out.failures.push_back(user + ", " + who + ", sees rows in " + table);
            }
        }
        out.tables_read = std::max(out.tables_read, read);
        ++out.rounds;
    }
    return out;
}

}  // namespace

std::vector<LeakTrial> run_leak_test(const LeakTest& test) {
    std::vector<Expected> pair;
    for (const auto& tenant : test.patient.tenants) {
        if (tenant->state == TenantState::active && pair.size() < 2) pair.push_back(expected_of(test.patient, tenant, test.request.self_test_user));
    }
    const auto not_run = [](const char* way, const char* note) {
        LeakTrial trial;
        trial.way = way;
        trial.note = note;
        return trial;
    };
    const IdentifyConfig& identify = test.patient.config.identify;
    if (pair.size() < 2) return {not_run("login", "it needs two active tenants in the database")};
    std::vector<LeakTrial> trials;
    trials.push_back(identify.options ? named_at_login(test, pair) : not_run("login", "identify.options is off"));
    trials.push_back(identify.sql ? named_by_sql(test, pair) : not_run("sql", "identify.sql is off"));
    if (test.patient.has_rows() && test.patient.database.isolation != Isolation::login) trials.push_back(named_nobody(test));
    return trials;
}

}  // namespace pgporter
