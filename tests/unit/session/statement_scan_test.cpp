// What a statement may do to its session, read off its text.
#include "proxy/session/statement_scan.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

using namespace pgporter;

namespace {

// The traits as a line of words, so that a table can hold them: "" means that nothing was seen.
std::string describe(const StatementTraits& t) {
    std::string out;
    const auto add = [&](bool set, std::string_view word) {
        if (!set) return;
        if (!out.empty()) out += ' ';
        out += word;
    };
    add(t.listen, "listen");
    add(t.temporary_object, "temp");
    add(t.hold_cursor, "hold");
    add(t.session_advisory_lock, "lock");
    add(t.sql_prepare, "prepare");
    add(t.may_change_settings, "may");
    add(t.changes_unknown_setting, "unknown");
    add(t.resets_context, "context");
    for (const std::string& name : t.custom_settings) add(true, "[" + name + "]");
    add(t.discard_all, "discard_all");
    add(t.reset_all, "reset_all");
    add(t.deallocate_all, "deallocate_all");
    add(!t.deallocate_name.empty(), "deallocate(" + t.deallocate_name + ")");
    add(t.empty, "empty");
    return out;
}

struct Row {
    std::string_view sql;
    std::string_view traits;
};

void check(const std::vector<Row>& rows) {
    for (const Row& row : rows) {
        INFO(row.sql);
        CHECK(describe(scan_statement(row.sql)) == row.traits);
    }
}

}  // namespace

TEST_CASE("a setting may begin with a word of SET's") {
    check({
        {"SET session.tenant = 'x'", "may [session.tenant]"},
        {"SET local.tenant = 'x'", "may [local.tenant]"},
        {"SET LOCAL local . tenant = 'x'", "[local.tenant]"},
        {"SET transaction.tenant TO 'x'", "may [transaction.tenant]"},
        {"SET constraints.tenant = 'x'", "may [constraints.tenant]"},
        {"SET schema.tenant = 'x'", "may [schema.tenant]"},
        {"RESET session.tenant", "may [session.tenant]"},
        {"SET SESSION AUTHORIZATION app", "may context"},
        {"SET TRANSACTION READ ONLY", ""},
    });
}

TEST_CASE("which texts are worth a closer look") {
    for (const char* sql : {"BEGIN", "select 1; commit", "SET a.b = 1", "RESET ALL", "DISCARD ALL", "SELECT set_config('a.b', 'x', true)", "release s",
                            "SELECT \"set_config\" ($1, $2, $3)", "/* x */ Savepoint a"}) {
        INFO(sql);
        CHECK(scan_statement(sql).of_session);
    }
    for (const char* sql : {"SELECT 1", "SELECT 'BEGIN; COMMIT'", "SELECT begin FROM set", "INSERT INTO t VALUES ('x') -- ; SET a = b", "EXECUTE x", ""}) {
        INFO(sql);
        CHECK_FALSE(scan_statement(sql).of_session);
    }
}

TEST_CASE("what frameworks send to name a tenant") {
    check({
        {"SET search_path = 'acme','public'", "may context"},
        {"SET search_path = 'public'", "may context"},
        {"SET search_path = acme,public", "may context"},
        {"SET search_path TO \"acme\", \"public\"", "may context"},
        {"set search_path to \"acme\"", "may context"},
        {"set search_path to \"acme\",\"public\"", "may context"},
        {"SET SESSION search_path TO 'acme'", "may context"},
        {"SET SESSION search_path TO DEFAULT", "may context"},
        {"SET SCHEMA 'acme'", "may context"},
        {"SET SESSION SCHEMA 'acme'", "may context"},
        {"SET search_path to acme; SELECT 1", "may context"},
        {"SET search_path FROM CURRENT", "may context"},
        {"SET \"search_path\" TO acme", "may context"},
        {"SET LOCAL search_path TO acme", "context"},
        {"SET my.current_tenant = '3f0e'", "may [my.current_tenant]"},
        {"RESET my.current_tenant", "may [my.current_tenant]"},
        {"SET app.current_tenant = '3f0e'", "may [app.current_tenant]"},
        {"SET LOCAL app.current_tenant = 'x'", "[app.current_tenant]"},
        {"SET SESSION App.Current_Tenant TO 'x'", "may [app.current_tenant]"},
        {"SET \"App\".\"Tenant\" TO 'x'", "may [app.tenant]"},
        {"SET app . tenant TO 'x'", "may [app.tenant]"},
        {"SET a.b.c TO 'x'", "may [a.b.c]"},
        {"SET nile.tenant_id = '1'; SET LOCAL x.y = 2", "may [nile.tenant_id] [x.y]"},
        {"SELECT set_config('app.current_company_id', $1, TRUE)", "may [app.current_company_id]"},
        {"select set_config('search_path', $1, true), set_config('role', $2, true), "
         "set_config('request.jwt.claims', $3, true), set_config('request.method', $4, true)",
         "may context [request.jwt.claims] [request.method]"},
        {"SELECT pg_catalog.set_config('search_path', '', false)", "may context"},
        {"SELECT pg_catalog.set_config('Search_Path', '', false)", "may context"},
        {"select set_config(el->>0, el->>1, true) from json_array_elements($1) el", "may unknown"},
        {"set local role acme", "context"},
        {"SET ROLE acme", "may context"},
        {"SET SESSION ROLE acme", "may context"},
        {"SET role = 'acme'", "may context"},
        {"RESET ROLE", "may context"},
        {"RESET search_path", "may context"},
        {"SET SESSION AUTHORIZATION 'acme'", "may context"},
        {"SET LOCAL SESSION AUTHORIZATION 'acme'", "context"},
        {"SET session_authorization TO acme", "may context"},
        {"RESET SESSION AUTHORIZATION", "may context"},
        {"SET client_min_messages TO 'warning'", "may"},
        {"SET standard_conforming_strings = on", "may"},
        {"SET SESSION timezone TO 'UTC'", "may"},
        {"set names 'utf8'", "may"},
        {"set time zone 'UTC'", "may"},
        {"SET application_name = 'app.acme'", "may"},
        {"SET pgdog.shard TO 1", "may [pgdog.shard]"},
        {"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", ""},
        {"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", ""},
        {"SET LOCAL TRANSACTION READ ONLY", ""},
        {"SET CONSTRAINTS ALL DEFERRED", ""},
        {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "may"},
        {"SHOW search_path", ""},
    });
}

TEST_CASE("resets, discards and deallocations, alone and not") {
    check({
        {"RESET ALL", "may context reset_all"},
        {"reset all;", "may context reset_all"},
        {" /* a */ RESET -- b\n ALL ; ; ", "may context reset_all"},
        {"RESET ALL; SELECT 1", "may context"},
        {"SELECT 1; RESET ALL", "may context"},
        {"RESET ALL ALL", "may context"},
        {"RESET statement_timeout", "may"},
        {"DISCARD ALL", "may context discard_all"},
        {"discard /* x */ all;", "may context discard_all"},
        {"DISCARD ALL; DISCARD ALL", "may context"},
        {"DISCARD ALL 'never ends", "may context"},
        {"DISCARD ALL /* never ends", "may context"},
        {"DISCARD PLANS", ""},
        {"DISCARD TEMP", ""},
        {"DEALLOCATE ALL", "deallocate_all"},
        {"DEALLOCATE PREPARE ALL;", "deallocate_all"},
        {"DEALLOCATE ALL; SELECT 1", ""},
        {"DEALLOCATE \"ALL\"", "deallocate(ALL)"},
        {"DEALLOCATE Pdo_Stmt_1", "deallocate(pdo_stmt_1)"},
        {"DEALLOCATE PREPARE p1", "deallocate(p1)"},
        {"DEALLOCATE prepare", "deallocate(prepare)"},
        {"DEALLOCATE \"a\"\"B\" ;", "deallocate(a\"B)"},
        {"DEALLOCATE a b", ""},
        {"DEALLOCATE 'a'", ""},
        {"DEALLOCATE", ""},
        {"DEALLOCATE x; SELECT 1", ""},
        {"DEALLOCATE x 'never ends", ""},
        {"", "empty"},
        {" ; ;; ", "empty"},
        {"-- only a comment", "empty"},
        {"/* /* nested */ */", "empty"},
        {"/* open", ""},
        {"'open", ""},
        {"\"open", ""},
        {"$$open", ""},
        {"SELECT 1", ""},
    });
}

TEST_CASE("a deallocated name is cut as PostgreSQL cuts it") {
    const std::string ascii(70, 'x');
    CHECK(scan_statement("DEALLOCATE " + ascii).deallocate_name == std::string(63, 'x'));
    // The 63rd byte would be half of a letter.
    const std::string accented = std::string(62, 'x') + "\xc3\xa4zz";
    CHECK(scan_statement("DEALLOCATE \"" + accented + "\"").deallocate_name == std::string(62, 'x'));
}

TEST_CASE("reasons to pin") {
    check({
        {"LISTEN jobs", "listen"},
        {"select 1; listen jobs", "listen"},
        {"UNLISTEN jobs", ""},
        {"NOTIFY listen", ""},
        {"SELECT listen FROM t", ""},
        {"CREATE TEMP TABLE t (a int)", "temp"},
        {"create temporary table t as select 1", "temp"},
        {"CREATE LOCAL TEMPORARY TABLE t (a int)", "temp"},
        {"CREATE GLOBAL TEMP TABLE t (a int)", "temp"},
        {"CREATE OR REPLACE TEMP VIEW v AS SELECT 1", "temp"},
        {"CREATE TEMP SEQUENCE s", "temp"},
        {"EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", "temp"},
        {"CREATE TABLE temp (a int)", ""},
        {"CREATE TABLE t (temp int, local text)", ""},
        {"CREATE INDEX temp ON t (a)", ""},
        {"SELECT a INTO TEMP t FROM u", "temp"},
        {"SELECT a INTO TEMPORARY TABLE t FROM u", "temp"},
        {"SELECT a INTO LOCAL TEMP t FROM u", "temp"},
        {"SELECT a INTO t FROM temp", ""},
        {"INSERT INTO temp VALUES (1)", ""},
        {"WITH i AS (INSERT INTO temp VALUES (1)) SELECT 1", ""},
        {"MERGE INTO temp USING u ON true WHEN MATCHED THEN DELETE", ""},
        {"SELECT * FROM pg_temp.t", "temp"},
        {"CREATE TABLE \"pg_temp\".t (a int)", "temp"},
        {"SELECT * FROM pg_temp_3.t", "temp"},
        {"SELECT pg_temperature FROM weather", ""},
        {"SELECT 1 FROM pg_namespace WHERE nspname NOT LIKE 'pg_temp_%'", ""},
        {"SET search_path = 'pg_temp'", "temp may context"},
        {"SET search_path = acme, pg_temp", "temp may context"},
        {"DECLARE c CURSOR WITH HOLD FOR SELECT 1", "hold"},
        {"declare c binary insensitive scroll cursor /**/ with /**/ hold for select 1", "hold"},
        {"DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", ""},
        {"DECLARE c CURSOR FOR SELECT 1", ""},
        {"WITH hold AS (SELECT 1) SELECT * FROM hold", ""},
        {"SELECT pg_advisory_lock(1)", "lock"},
        {"SELECT pg_catalog.pg_try_advisory_lock(1, 2)", "lock"},
        {"SELECT PG_ADVISORY_LOCK_SHARED (1)", "lock"},
        {"SELECT \"pg_try_advisory_lock_shared\"(1)", "lock"},
        {"SELECT CASE WHEN true THEN pg_advisory_lock /* x */ (1) END", "lock"},
        {"SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(2)", ""},
        {"SELECT pg_advisory_unlock(1)", ""},
        {"SELECT pg_advisory_lock FROM t", ""},
        {"PREPARE p AS SELECT 1", "prepare"},
        {"PREPARE p (int, text) AS SELECT $1", "prepare"},
        {"PREPARE transaction AS SELECT 1", "prepare"},
        {"PREPARE TRANSACTION 'gid'", ""},
        {"PREPARE", ""},
        {"EXECUTE p", ""},
    });
}

TEST_CASE("settings that can't be told from the text") {
    check({
        {"DO $$ begin perform set_config('search_path', 'x', false); end $$", "may unknown"},
        {"CALL p(1)", "may unknown"},
        {"SELECT 1; do $x$ begin end $x$", "may unknown"},
        {"SELECT set_config($1, $2, false)", "may unknown"},
        {"SELECT set_config('a' || 'b', 'x', false)", "may unknown"},
        {"SELECT set_config('a'::text, 'x', false)", "may unknown"},
        {"SELECT set_config(setting_name => 'a', new_value => 'b', is_local => true)", "may unknown"},
        {"SELECT set_config(E'a\\.b', 'x', false)", "may unknown"},
        {"SELECT set_config(E'a.b', 'x', false)", "may [a.b]"},
        {"SELECT set_config('it''s', 'x', false)", "may unknown"},
        {"SELECT set_config('a' 'b', 'x', false)", "may unknown"},
        {"SELECT set_config(U&'a\\005fb', 'x', false)", "may unknown"},
        {"SELECT set_config", ""},
        {"SELECT set_config(", "may unknown"},
        {"SELECT set_config('a.b'", "may unknown"},
        {"SELECT set_config((select 'a.b'), set_config('c.d', 'e', true), true)", "may unknown [c.d]"},
        {"SELECT U&\"set\\005fconfig\"('a.b', 'c', false)", "may unknown"},
        {"SET U&\"search\\005fpath\" TO x", "may unknown"},
        {"UPDATE pg_settings SET setting = 'x' WHERE name = 'search_path'", "may unknown"},
        {"UPDATE pg_catalog.pg_settings SET setting = 'x'", "may unknown"},
        {"SELECT name FROM pg_settings", ""},
        {"ALTER ROLE r SET search_path = x", ""},
        {"ALTER DATABASE d SET a.b = x", ""},
        {"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = x AS $$ SELECT 1 $$", ""},
        {"UPDATE t SET a = 1", ""},
    });
}

TEST_CASE("what stands in comments, strings and quotes isn't a statement") {
    check({
        {"SELECT ';LISTEN a;'", ""},
        {"SELECT 'it''s; LISTEN a'", ""},
        {"SELECT E'it\\'s; LISTEN a'", ""},
        {"SELECT E'\\\\'; LISTEN a", "listen"},
        {"SELECT e'''; LISTEN a'", ""},
        {"SELECT '\\'; LISTEN a", "listen"},
        {"SELECT type'\\'; LISTEN a", "listen"},
        {"SELECT U&'\\'; LISTEN a", "listen"},
        {"SELECT B'1', x'; LISTEN a'", ""},
        {"SELECT \"; LISTEN a\"", ""},
        {"SELECT \"a\"\"; LISTEN a\"", ""},
        {"SELECT $$; LISTEN a;$$", ""},
        {"SELECT $q$; $$ LISTEN a;$q$; LISTEN b", "listen"},
        {"SELECT $\xc3\xa4$; LISTEN a;$\xc3\xa4$", ""},
        {"SELECT a$b$; LISTEN c; SELECT d$b$", "listen"},
        {"SELECT $1; LISTEN a", "listen"},
        {"SELECT $1$; LISTEN a $1$", "listen"},
        {"SELECT 1 -- '\n; LISTEN a", "listen"},
        {"SELECT 1 -- '\r; LISTEN a", "listen"},
        {"SELECT 1 /* ' /* \" */ $$ */; LISTEN a", "listen"},
        {"SELECT 1 /* /* */; LISTEN a", ""},
        {"SELECT 1 */* ' */ 2; LISTEN a", "listen"},
        {"SELECT 1 +-- '\n2; LISTEN a", "listen"},
        {"SELECT 1 - 2 / 3; LISTEN a", "listen"},
        {"/* SET search_path TO x */ SELECT 1", ""},
        {"-- x\nLISTEN a", "listen"},
        {"SELECT 1e'\\'; LISTEN a'", ""},
        {"LISTENx", ""},
        {"set_config('a.b', 'c', false)", "may [a.b]"},
        {"SELECT 'pg_advisory_lock('", ""},
        {"\xef\xbb\xbf", ""},
    });
}

TEST_CASE("a text cut anywhere is read to its end and no further") {
    const std::string sql =
        "SET LOCAL \"a\".b = E'x\\'y'; SELECT set_config('c.d', $t$x$t$, true) /* /* */ */ -- z\n; DEALLOCATE PREPARE "
        "\"q\"\"r\"";
    for (std::size_t size = 0; size <= sql.size(); ++size) {
        // A copy of exactly that size: a sanitizer sees any look behind its end.
        const std::vector<char> copy(sql.begin(), sql.begin() + static_cast<std::ptrdiff_t>(size));
        const StatementTraits traits = scan_statement({copy.data(), copy.size()});
        CHECK_FALSE(traits.listen);
        CHECK(traits.deallocate_name.empty());
        if (size == sql.size()) CHECK(describe(traits) == "may [a.b] [c.d]");
    }
}

TEST_CASE("time grows with the text, not with its square") {
    const std::vector<std::string_view> pieces = {"'",        "''",         "\"",          "$a",      "$a$",
                                                  "$",        "/*",         "/**/",        "-- \n",   "E'\\'",
                                                  "U&\"",     "SET a.b=1;", "set_config(", "CREATE ", "set_config('x',",
                                                  "$aaaaaaaa"};
    for (const std::string_view piece : pieces) {
        std::string sql;
        while (sql.size() < 2'000'000) sql += piece;
        const auto begin = std::chrono::steady_clock::now();
        (void)scan_statement(sql);
        INFO(piece);
        // Linear takes tens of milliseconds; quadratic would take minutes.
        CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
    }
}

TEST_CASE("what may give up a pin") {
    for (const std::string_view sql :
         {"CLOSE c", "close all", "DEALLOCATE p", "DEALLOCATE PREPARE ALL", "deallocate all", "DROP TABLE t", "drop schema s cascade", "UNLISTEN *",
          "unlisten news", "DISCARD TEMP", "DISCARD ALL", "discard temporary", "SELECT 1; CLOSE c", "/* x */ CLOSE \"_django_curs_1\"",
          "SELECT pg_advisory_unlock(1)", "SELECT pg_catalog.pg_advisory_unlock_all()", "select \"pg_advisory_unlock_shared\"(1, 2)",
          "WITH x AS (SELECT PG_ADVISORY_UNLOCK(1)) SELECT * FROM x"}) {
        INFO(sql);
        CHECK(scan_statement(sql).may_unpin);
    }
    for (const std::string_view sql : {"SELECT close FROM prices", "UPDATE t SET drop = 1", "LISTEN a", "FETCH ALL FROM c", "SELECT 'CLOSE c'", "-- DROP TABLE t",
                                       "SELECT pg_advisory_lock(1)", "SELECT 'pg_advisory_unlock(1)'", "COMMIT", "ALTER TABLE t DROP COLUMN c", ""}) {
        INFO(sql);
        CHECK_FALSE(scan_statement(sql).may_unpin);
    }
}
