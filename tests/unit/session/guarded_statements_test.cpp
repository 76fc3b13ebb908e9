#include "proxy/session/guarded_statements.hpp"

#include <doctest/doctest.h>

#include <string>

#include "proxy/session/tenant_context.hpp"

using namespace pgporter;

namespace {

const Access by_role{"app", "acme_role", "", "", true, false};
const Access by_setting{"app", "", "app.tenant", "42", false, true};
const Access nothing{"app", "acme_role", "app.tenant", "42", false, false};

bool refused(const char* sql, const Access& access) {
    const auto error = guard_statement(sql, access);
    if (error) CHECK(error->sqlstate == "42501");
    return error.has_value();
}

}  // namespace

TEST_CASE("the role is left in no spelling") {
    for (const char* sql : {
             "RESET ROLE", "reset role", "SET ROLE none", "SET ROLE globex_role", "SET SESSION ROLE globex_role", "SET LOCAL ROLE 'globex_role'",
             "SET role = globex_role", "SET \"role\" TO 'globex_role'", "SET ROLE \"Acme_role\"", "SET ROLE acme_role, x", "SET role TO DEFAULT",
             "SET SESSION AUTHORIZATION app", "SET LOCAL SESSION AUTHORIZATION DEFAULT", "SET session_authorization = 'app'",
             "RESET SESSION AUTHORIZATION", "RESET session_authorization", "SET/**/ROLE/**/none", "-- x\nSET ROLE none",
             "SELECT 1; RESET ROLE; SELECT 2", "BEGIN; SET LOCAL ROLE x", ";;RESET ROLE", "SELECT set_config('role', 'none', false)",
             "select pg_catalog.\"set_config\" ('ROLE', 'none', true)", "SELECT set_config('ro' || 'le', 'none', false)",
             "SELECT set_config('ro'\n'le', 'none', false)", "SELECT set_config($1, $2, false)", "SELECT set_config(E'r\\x6fle', 'none', false)",
             "SELECT set_config(setting_name => 'role', new_value => 'none', is_local => false)", "SELECT set_config(name, 'x', true) FROM t",
             "SELECT set_config('role', 'acme_' || 'x', false)", "SELECT set_config('role', $1, false)",
             "SELECT set_config('search_path', 'x', true), set_config('role', 'x', true)",
             "SELECT U&\"set\\005fconfig\"('role', 'none', false)", "UPDATE pg_settings SET setting = 'none' WHERE name = 'role'",
             "WITH x AS (SELECT 1) UPDATE pg_catalog.pg_settings SET setting = 'x'", "SET U&\"r\\006fle\" = 'x'",
             "SET standard_conforming_strings = off", "SELECT set_config('standard_conforming_strings', 'off', false)",
             "PREPARE p AS SELECT set_config('role', 'none', false)", "EXPLAIN ANALYZE SELECT set_config('role', 'none', false)",
             "COPY (SELECT set_config('role', 'none', false)) TO STDOUT", "DECLARE c CURSOR FOR SELECT set_config('role', 'none', false)"}) {
        CAPTURE(sql);
        CHECK(refused(sql, by_role));
        CHECK_FALSE(refused(sql, nothing));
    }
}

TEST_CASE("what applications say stays allowed") {
    for (const char* sql : {"", ";", "SELECT 1", "UPDATE users SET role = 'admin' WHERE id = 1", "INSERT INTO t (role) VALUES ('x')",
                            "SELECT role, 'RESET ROLE' FROM users -- SET ROLE none", "SELECT $$ RESET ROLE $$", "SET search_path TO x, public",
                            "SET LOCAL statement_timeout = 5", "SET TIME ZONE 'UTC'", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                            "RESET ALL",
                            "DISCARD ALL", "SET standard_conforming_strings = on", "SET standard_conforming_strings TO 'on'",
                            "SELECT set_config('search_path', $1, true)", "SELECT set_config FROM t", "SELECT * FROM pg_settings", "SET NAMES 'utf8'",
                            "CREATE TABLE roles (role text)", "ALTER TABLE t ALTER COLUMN role SET DEFAULT 'x'"}) {
        CAPTURE(sql);
        CHECK_FALSE(refused(sql, by_role));
        CHECK_FALSE(refused(sql, by_setting));
    }
}

TEST_CASE("saying again what is so already is allowed") {
    for (const char* sql : {"SET ROLE acme_role", "SET ROLE \"acme_role\"", "SET LOCAL role = 'acme_role'",
                            "SELECT set_config('role', 'acme_role', true)",
                            "SET ROLE Acme_Role; SELECT 1"}) {
        CAPTURE(sql);
        CHECK_FALSE(refused(sql, by_role));
    }
    for (const char* sql : {"SET app.tenant = '42'", "SET LOCAL App.Tenant TO '42'",
                            "SELECT set_config('app.tenant', '42', true)", "RESET app.tenant"}) {
        CAPTURE(sql);
        CHECK_FALSE(refused(sql, by_setting));
    }
}

TEST_CASE("the tenant's setting isn't changed") {
    for (const char* sql : {"SET app.tenant = '43'", "SET app.tenant = 43", "SET \"app\".\"tenant\" TO '43'", "SET LOCAL app.tenant = '42', '43'",
                            "SELECT set_config('App.Tenant', '43', true)", "SELECT set_config('app.tenant', $1, true)",
                            "SELECT set_config($1, '1', true)",
                            "SELECT set_config('app.tenant', '4' || '3', true)", "SET app.tenant TO DEFAULT"}) {
        CAPTURE(sql);
        CHECK(refused(sql, by_setting));
        CHECK_FALSE(refused(sql, nothing));
    }
    CHECK_FALSE(refused("SET ROLE x", by_setting));
    CHECK_FALSE(refused("SET app.tenants = '43'", by_setting));
}

TEST_CASE("messages stand alone") {
    CHECK(guard_statement("RESET ROLE", by_role)->message ==
          "permission denied to leave the tenant's role: SET ROLE, RESET ROLE and SET SESSION AUTHORIZATION are not allowed here");
    CHECK(guard_statement("SET app.tenant = '1'", by_setting)->message ==
          "permission denied to change parameter \"app.tenant\": pgporter sets it for the tenant");
    CHECK(guard_unseen(by_role)->sqlstate == "42501");
    CHECK_FALSE(guard_unseen(nothing).has_value());
    CHECK(guard_discard_all(by_role)->sqlstate == "42501");
    CHECK_FALSE(guard_discard_all(by_setting).has_value());
}

TEST_CASE("a session's state follows its access") {
    Context state;
    state.role = "acme_role";
    put_setting(state.settings, "app.tenant", "42");
    put_setting(state.settings, "work_mem", "1MB");
    adopt_access(state, nothing, {"app", "globex_role", "my.tenant", "7", false, false});
    CHECK(state.role == "globex_role");
    CHECK(find_setting(state.settings, "app.tenant") == nullptr);
    CHECK(*find_setting(state.settings, "my.tenant") == "7");
    CHECK(*find_setting(state.settings, "work_mem") == "1MB");
    state.role = "own_choice";
    adopt_access(state, {"app", "globex_role", "", "", false, false}, {"app", "other", "", "", false, false});
    CHECK(state.role == "own_choice");
    adopt_access(state, {"app", "globex_role", "", "", false, false}, by_role);
    CHECK(state.role == "acme_role");
    state.role = "other";
    put_setting(state.settings, "App.Tenant", "");
    keep_access(state, {"app", "acme_role", "app.tenant", "42", true, false});
    CHECK(state.role == "acme_role");
    CHECK(*find_setting(state.settings, "app.tenant") == "42");
}
