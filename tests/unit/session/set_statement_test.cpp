#include "proxy/session/set_statement.hpp"

#include <doctest/doctest.h>

using pgporter::set_statement_sql;

TEST_CASE("a path that PostgreSQL would show as it is") {
    CHECK(set_statement_sql("search_path", "acme, public") == "SET SESSION search_path TO 'acme', 'public'");
    CHECK(set_statement_sql("search_path", "\"Up per\", \"quo\"\"te\"") == "SET SESSION search_path TO 'Up per', 'quo\"te'");
    CHECK(set_statement_sql("search_path", "\"$user\", \"it's\"") == "SET SESSION search_path TO '$user', 'it''s'");
    CHECK(set_statement_sql("search_path", "\"back\\slash\"") == "SET SESSION search_path TO E'back\\\\slash'");
}

TEST_CASE("a path that SET would spell in another way") {
    for (const char* value : {"", "acme,public", " acme", "ACME", "\"acme\"", "\"", "a b", "user"}) {
        CAPTURE(value);
        CHECK(set_statement_sql("search_path", value).empty());
    }
    CHECK(set_statement_sql("search_path", std::string(70, 'n')).empty());
}

TEST_CASE("settings of applications") {
    CHECK(set_statement_sql("app.tenant", "acme") == "SET SESSION \"app\".\"tenant\" TO 'acme'");
    CHECK(set_statement_sql("app.tenant", "") == "SET SESSION \"app\".\"tenant\" TO ''");
    CHECK(set_statement_sql("a.b.c", "it's, \\") == "SET SESSION \"a\".\"b\".\"c\" TO E'it''s, \\\\'");
    for (const char* name : {"datestyle", "app.", ".tenant", "app..tenant"}) {
        CAPTURE(name);
        CHECK(set_statement_sql(name, "x").empty());
    }
    CHECK(set_statement_sql("app." + std::string(64, 'n'), "x").empty());
    CHECK(set_statement_sql("app.tenant", std::string_view("a\0b", 3)).empty());
}
