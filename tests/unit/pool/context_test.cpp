#include "proxy/pool/context.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

TEST_CASE("literals mean the same under any standard_conforming_strings") {
    CHECK(sql_literal("plain") == "'plain'");
    CHECK(sql_literal("it's") == "'it''s'");
    CHECK(sql_literal("a\\'b") == "E'a\\\\''b'");
    CHECK(sql_identifier("we\"ird") == "\"we\"\"ird\"");
}

TEST_CASE("setting names compare without case, the last value wins") {
    Settings settings;
    put_setting(settings, "TimeZone", "UTC");
    put_setting(settings, "timezone", "Europe/Paris");
    REQUIRE(settings.size() == 1);
    CHECK(*find_setting(settings, "TIMEZONE") == "Europe/Paris");
    CHECK(find_setting(settings, "time") == nullptr);
}

TEST_CASE("the proof is what the server says, not that it said something") {
    const Context context{"", "acme, public", {{"application_name", "x"}}};
    CHECK(is_proof(context, {"none", "acme, public", "x"}));
    CHECK_FALSE(is_proof(context, {"none", "globex, public", "x"}));
    CHECK_FALSE(is_proof(context, {"admin", "acme, public", "x"}));
    CHECK_FALSE(is_proof(context, {"none", "acme, public"}));
    CHECK_FALSE(is_proof(context, {"none", std::nullopt, "x"}));
    CHECK_FALSE(is_proof(context, {}));
    const Context with_role{"acme_role", "acme", {}};
    CHECK(is_proof(with_role, {"acme_role", "acme"}));
    CHECK_FALSE(is_proof(with_role, {"none", "acme"}));
}

TEST_CASE("the set batch names every wish and quotes it") {
    const Context context{"r\"1", "\"a'b\", public", {{"app.x", "it's"}}};
    const std::string sql = set_sql(context);
    CHECK(sql.find("SET SESSION ROLE \"r\"\"1\"") != std::string::npos);
    CHECK(sql.find("set_config('search_path', '\"a''b\", public', false)") != std::string::npos);
    CHECK(sql.find("set_config('app.x', 'it''s', false)") != std::string::npos);
}

TEST_CASE("the reset batch leaves nothing that a session can have made") {
    const std::string sql = reset_sql();
    for (const char* part : {"RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL", "CLOSE ALL", "UNLISTEN *", "DISCARD TEMP",
                             "DISCARD SEQUENCES", "pg_advisory_unlock_all"}) {
        CAPTURE(part);
        CHECK(sql.find(part) != std::string::npos);
    }
}

TEST_CASE("the prologue is ASCII, whatever the session's encoding is") {
    CHECK(ascii_sql_literal("it's") == "'it''s'");
    CHECK(ascii_sql_literal("gr\xc3\xbcn\\") == "E'gr\\U000000fcn\\\\'");
    CHECK(ascii_sql_literal("\xf0\x9f\x98\x80'") == "E'\\U0001f600'''");
    CHECK(ascii_sql_literal("\x83\\'") == "E'\\x83\\\\'''");  // no UTF-8: PostgreSQL refuses it
    const Context context{"", "gr\xc3\xbcn", {}};
    CHECK(set_sql(context).find("false) OPERATOR(pg_catalog.=) E'gr\\U000000fcn'") != std::string::npos);
    CHECK(is_proof(context, {"none", "t"}));
    CHECK_FALSE(is_proof(context, {"none", "f"}));
}

TEST_CASE("an empty path is neither the default nor a path with a schema of no name") {
    Context context;
    context.has_empty_path = true;
    CHECK(set_sql(context).find("set_config('search_path', '', false)") != std::string::npos);
    CHECK(is_proof(context, {"none", ""}));
    CHECK_FALSE(is_proof(context, {"none", "\"$user\", public"}));
    CHECK_FALSE(is_proof(context, {"none", "\"\""}));
    CHECK_FALSE(context == Context{});
}
