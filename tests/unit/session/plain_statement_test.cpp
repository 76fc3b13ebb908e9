#include "proxy/session/plain_statement.hpp"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "proxy/session/statement_scan.hpp"

using namespace pgporter;

namespace {

StatementTraits plain() {
    StatementTraits traits;
    traits.plain = true;
    return traits;
}

}  // namespace

TEST_CASE("what applications send all day takes the short way") {
    for (const char* sql : {"SELECT abalance FROM pgbench_accounts WHERE aid = 42;", "select 1", "  SELECT $1::int4 + 1  ",
                            "INSERT INTO items (payload, n) VALUES ('it''s; SET x', $2) RETURNING id",
                            "UPDATE \"acme\".\"items\" SET n = n - 1, note = '-- /*' WHERE id = $1 AND a / b > .5",
                            "DELETE FROM items WHERE payload LIKE '%\\' OR true", "WITH x AS (SELECT 1) SELECT * FROM x, temporal, item",
                            "SELECT \"django_session\".\"session_key\" FROM \"django_session\" LIMIT 21", "SELECT n\xc3\xa4me FROM t ; \n"}) {
        INFO(std::string(sql));
        CHECK(is_plain_statement(sql));
        CHECK(scan_in_full(sql) == plain());
    }
}

TEST_CASE("what may matter, or is read otherwise in another dialect, is left to the scan") {
    for (const char* sql : {"", "SELECT 1; SELECT 2", "BEGIN", "SELECT x INTO temp t FROM y", "SELECT 1into temp t", "SELECT 1e1into temp t", "SELECT $1into t",
                            "SELECT set_config('a.b', 'c', false)", "SELECT \"set_config\"('a.b', 'c', false)", "SELECT pg_advisory_lock(1)",
                            "SELECT U&\"\\0073et_config\"('a.b', 'c', true)", "SELECT E'\\'' ; LISTEN a", "SELECT 1 -- x", "SELECT 1 /* x", "SELECT 'x",
                            "SELECT \"x", "SELECT $$x$$", "SELECT $a$x$a$", "SELECT $", "INSERT temp", "SELECT 1 FROM pg_temp.x", "INSERTinto x", "SELECT'x'",
                            "WITH x AS (INSERT INTO temp VALUES (1) RETURNING 1) SELECT 1", "update pg_settings SET setting = 1", "SELECT n'x'"}) {
        INFO(std::string(sql));
        CHECK_FALSE(is_plain_statement(sql));
    }
    CHECK_FALSE(is_plain_statement("SELECT 1", {.standard_strings = false}));
    CHECK_FALSE(is_plain_statement("SELECT 1", {.encoding = SqlEncoding::sjis}));
}

TEST_CASE("the short way never says less than the scan") {
    const std::vector<std::string> pieces = {
        "select", "INSERT", "into", "Update", "delete", "with", "set", "create", "temp", "TEMPORARY", "table", "t", "e", "U&", "u", "&", "n", "x1", "pg_temp", "\"pg_temp\"", "\"set_config\"", "(",
        "pg_settings", "set_config", "pg_advisory_unlock", "pg_advisory_lock", "listen", "begin", "discard", "all", "or", "local", "global", "merge", "hold",
        "'", "''", "\"", "\"\"", "$", "$1", "$a$", "$$", ";", "-", "--", "/", "/*", "*/", "*", "(", ")", ",", ".", "::", "\\", "\n", " ", " ", " ", " ", "1", "2e5",
        "0x", "\xc3\xa4", "\xe3\x83\x82", "a$b", "_"};
    std::mt19937 random(20'261'122);
    const auto below = [&random](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    std::size_t short_ways = 0;
    for (int i = 0; i < 300'000; ++i) {
        std::string sql = below(4) == 0 ? "" : std::vector<std::string>{"SELECT ", "insert into ", "UPDATE ", "with "}[below(4)];
        for (std::size_t n = below(12); n > 0; --n) sql += pieces[below(pieces.size())];
        const std::vector<char> copy(sql.begin(), sql.end());  // a sanitizer sees any look behind its end
        if (!is_plain_statement({copy.data(), copy.size()})) continue;
        ++short_ways;
        const bool is_same = scan_in_full(sql) == plain();
        if (!is_same) INFO(std::string(sql));
        REQUIRE(is_same);
    }
    CHECK(short_ways > 30'000);
}
