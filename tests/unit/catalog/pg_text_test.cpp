#include <doctest/doctest.h>

#include "catalog/pg_connection.hpp"
#include "catalog/server_access.hpp"

using namespace pgporter;

TEST_CASE("identifiers and literals are quoted so that nothing gets out") {
    CHECK(quote_ident("acme") == "\"acme\"");
    CHECK(quote_ident("a\"b") == "\"a\"\"b\"");
    CHECK(quote_literal("acme") == "'acme'");
    CHECK(quote_literal("o'clock") == "'o''clock'");
    CHECK(quote_literal("a\\'b") == " E'a\\\\''b'");
}

TEST_CASE("array literals there and back") {
    const std::vector<std::vector<std::string>> lists = {
        {}, {""}, {"a"}, {"a", "b"}, {"a,b", "{x}", "\"q\"", "back\\slash", " s ", "NULL"}};
    for (const auto& list : lists) CHECK(from_array_literal(to_array_literal(list)) == list);
    // As PostgreSQL writes them: unquoted where it can.
    CHECK(from_array_literal("{public,\"Odd \\\"name\\\"\"}") == std::vector<std::string>{"public", "Odd \"name\""});
    CHECK(from_array_literal("").empty());
}

TEST_CASE("SQLSTATEs have a kind") {
    CHECK(kind_of_sqlstate("57014") == ErrorKind::timeout);
    CHECK(kind_of_sqlstate("55P03") == ErrorKind::timeout);
    CHECK(kind_of_sqlstate("57P01") == ErrorKind::unavailable);
    CHECK(kind_of_sqlstate("08006") == ErrorKind::unavailable);
    CHECK(kind_of_sqlstate("53300") == ErrorKind::unavailable);
    CHECK(kind_of_sqlstate("28P01") == ErrorKind::unavailable);
    CHECK(kind_of_sqlstate("23505") == ErrorKind::conflict);
    CHECK(kind_of_sqlstate("42501") == ErrorKind::forbidden);
    CHECK(kind_of_sqlstate("42P01") == ErrorKind::not_found);
    CHECK(kind_of_sqlstate("XX000") == ErrorKind::internal);
}

TEST_CASE("a closed connection answers with errors") {
    PgConnection closed;
    CHECK_FALSE(closed.is_open());
    CHECK(closed.exec("SELECT 1").error().kind == ErrorKind::unavailable);
    CHECK(closed.exec_params("SELECT $1", {std::nullopt}).error().kind == ErrorKind::unavailable);
    CHECK(closed.notifications().error().kind == ErrorKind::unavailable);
    CHECK(closed.cancel().error().kind == ErrorKind::unavailable);
}

TEST_CASE("server logins: the first entry that fits is used") {
    Config config;
    config.server_logins = {
        {"main", "app", Secret("one")}, {"*", "app", Secret("two")}, {"west", "*", Secret("three")}};
    CHECK(find_server_login(config, "main", "app")->equals("one"));
    CHECK(find_server_login(config, "west", "app")->equals("two"));
    CHECK(find_server_login(config, "west", "mover")->equals("three"));
    CHECK(find_server_login(config, "main", "mover") == nullptr);
}

TEST_CASE("parameters for libpq: the password stays apart") {
    Config config;
    config.mover.connect_timeout_ms = Milliseconds{2'500};
    config.server_logins = {{"*", "mover", Secret("hidden")}};
    const Cluster cluster{"main", "127.0.0.1", 5433, ServerTls::verify_ca, "/ca.pem", 10};
    const auto params = libpq_params(config, cluster, "app", "mover", "mover 17");
    CHECK(params.password.equals("hidden"));
    const auto value = [&](const std::string& name) {
        for (const auto& [key, text] : params.keywords) {
            CHECK(text.find("hidden") == std::string::npos);
            if (key == name) return text;
        }
        return std::string("(none)");
    };
    CHECK(value("host") == "127.0.0.1");
    CHECK(value("port") == "5433");
    CHECK(value("dbname") == "app");
    CHECK(value("user") == "mover");
    CHECK(value("sslmode") == "verify-ca");
    CHECK(value("sslrootcert") == "/ca.pem");
    CHECK(value("connect_timeout") == "3");
    CHECK(value("application_name") == "pgporter mover 17");
}
