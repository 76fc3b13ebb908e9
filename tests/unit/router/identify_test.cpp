#include "router/identify.hpp"

#include <doctest/doctest.h>

#include "tests/unit/router/catalog_of_test.hpp"

using namespace pgporter;
using Settings = std::vector<std::pair<std::string, std::string>>;

namespace {

const SnapshotPtr catalog = test::router_catalog();

Result<Identity> identify_as(Settings parameters, Settings options = {}, const IdentifyConfig& config = {}) {
    return identify(config, *catalog, LoginRequest{std::move(parameters), std::move(options)});
}

struct Row {
    const char* what;
    Settings parameters;
    Settings options;
    const char* user;
    const char* database;
    const char* tenant;
};

struct BadRow {
    const char* what;
    Settings parameters;
    Settings options;
    std::vector<const char*> in_message;
};

}  // namespace

TEST_CASE("each way names the tenant") {
    const Row rows[] = {
        {"nothing", {{"user", "app"}}, {}, "app", "", ""},
        {"a plain database", {{"user", "app"}, {"database", "reports"}}, {}, "app", "reports", ""},
        {"libpq's default database", {{"user", "acme"}, {"database", "acme"}}, {}, "acme", "", ""},
        {"options", {{"user", "app"}, {"database", "app_db"}}, {{"pgporter.tenant", "acme"}}, "app", "app_db", "acme"},
        {"options, another case", {{"user", "app"}}, {{"PgPorter.Tenant", "acme"}}, "app", "", "acme"},
        {"startup parameter", {{"user", "app"}, {"pgporter.tenant", "acme"}}, {}, "app", "", "acme"},
        {"an empty name names nobody", {{"user", "app"}, {"pgporter.tenant", ""}}, {}, "app", "", ""},
        {"user suffix", {{"user", "app.acme"}, {"database", "app_db"}}, {}, "app", "app_db", "acme"},
        {"the last dot counts", {{"user", "a.b.acme"}}, {}, "a.b", "", "acme"},
        {"a known user with a dot", {{"user", "dotted.name"}}, {}, "dotted.name", "", ""},
        {"a known user with a suffix", {{"user", "dotted.name.acme"}}, {}, "dotted.name", "", "acme"},
        {"nothing after the dot", {{"user", "app."}}, {}, "app.", "", ""},
        {"nothing before the dot", {{"user", ".acme"}}, {}, ".acme", "", ""},
        {"suffix and libpq's default database",
         {{"user", "app.acme"}, {"database", "app.acme"}},
         {},
         "app",
         "",
         "acme"},
        {"a suffix that is no tenant is still named", {{"user", "app.nobody"}}, {}, "app", "", "nobody"},
        {"database", {{"user", "app"}, {"database", "acme"}}, {}, "app", "", "acme"},
        {"database@tenant", {{"user", "app"}, {"database", "app_db@acme"}}, {}, "app", "app_db", "acme"},
        {"the last @ counts", {{"user", "app"}, {"database", "a@b@acme"}}, {}, "app", "a@b", "acme"},
        {"@tenant", {{"user", "app"}, {"database", "@acme"}}, {}, "app", "", "acme"},
        {"nothing after the @", {{"user", "app"}, {"database", "db@"}}, {}, "app", "db@", ""},
        {"search_path", {{"user", "app"}, {"search_path", "acme, public"}}, {}, "app", "", "acme"},
        {"search_path by schema, not by name",
         {{"user", "app"}, {"search_path", "globex_schema"}},
         {},
         "app",
         "",
         "globex"},
        {"search_path in options", {{"user", "app"}}, {{"search_path", "public,acme"}}, "app", "", "acme"},
        {"search_path with a quoted schema",
         {{"user", "app"}, {"search_path", "\"Mixed Case\",public"}},
         {},
         "app",
         "",
         "mixed"},
        {"search_path of a tenant with its own database",
         {{"user", "app"}, {"search_path", "moved"}},
         {},
         "app",
         "",
         "moved"},
        {"public names nobody, even if somebody lives there",
         {{"user", "app"}, {"search_path", "public"}},
         {},
         "app",
         "",
         ""},
        {"a search_path of no tenant",
         {{"user", "app"}, {"search_path", "\"$user\", public, other"}},
         {},
         "app",
         "",
         ""},
        {"a search_path that is none", {{"user", "app"}, {"search_path", "acme,,"}}, {}, "app", "", ""},
        {"one schema twice", {{"user", "app"}, {"search_path", "acme, acme"}}, {}, "app", "", "acme"},
        {"all ways agree",
         {{"user", "app.acme"}, {"database", "x@acme"}, {"search_path", "acme"}, {"pgporter.tenant", "acme"}},
         {{"pgporter.tenant", "acme"}},
         "app",
         "x",
         "acme"},
        {"a schema of two tenants, and one of them",
         {{"user", "app.twin2"}, {"search_path", "twin"}},
         {},
         "app",
         "",
         "twin2"},
        {"the last user counts", {{"user", "nobody"}, {"user", "app.acme"}}, {}, "app", "", "acme"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.what);
        const auto identity = identify_as(row.parameters, row.options);
        REQUIRE(identity.has_value());
        CHECK(identity->user == row.user);
        CHECK(identity->database == row.database);
        CHECK(identity->tenant == row.tenant);
        CHECK(login_user({}, *catalog, {row.parameters, row.options}) == row.user);
    }
}

TEST_CASE("what contradicts itself is refused, and the message says what and where") {
    const BadRow rows[] = {
        {"no user", {{"database", "acme"}}, {}, {"no PostgreSQL user name"}},
        {"options and user",
         {{"user", "app.acme"}},
         {{"pgporter.tenant", "globex"}},
         {"\"globex\" (options)", "\"acme\" (user name)"}},
        {"options and parameter",
         {{"user", "app"}, {"pgporter.tenant", "acme"}},
         {{"pgporter.tenant", "globex"}},
         {"\"globex\" (options)", "\"acme\" (startup parameter pgporter.tenant)"}},
        {"options twice",
         {{"user", "app"}},
         {{"pgporter.tenant", "acme"}, {"pgporter.tenant", "globex"}},
         {"\"acme\" (options)", "\"globex\" (options)"}},
        {"user and database",
         {{"user", "app.acme"}, {"database", "globex"}},
         {},
         {"\"acme\" (user name)", "\"globex\" (database name)"}},
        {"user and db@tenant",
         {{"user", "app.acme"}, {"database", "db@globex"}},
         {},
         {"(user name)", "(database name)"}},
        {"user and search_path",
         {{"user", "app.globex"}, {"search_path", "acme"}},
         {},
         {"\"globex\" (user name)", "\"acme\" (search_path)"}},
        {"database and search_path",
         {{"user", "app"}, {"database", "acme"}, {"search_path", "globex_schema"}},
         {},
         {"(database name)", "(search_path)"}},
        {"two tenants in one search_path",
         {{"user", "app"}, {"search_path", "acme, globex_schema"}},
         {},
         {"\"acme\"", "\"globex_schema\""}},
        {"two search_paths",
         {{"user", "app"}, {"search_path", "acme"}},
         {{"search_path", "globex_schema"}},
         {"\"globex\" (search_path)", "\"acme\" (search_path)"}},
        {"a schema of two tenants", {{"user", "app"}, {"search_path", "twin"}}, {}, {"not clear"}},
        {"a schema of two tenants, and another one",
         {{"user", "app.acme"}, {"search_path", "twin"}},
         {},
         {"\"acme\" (user name)", "(search_path)"}},
    };
    for (const auto& row : rows) {
        CAPTURE(row.what);
        const auto identity = identify_as(row.parameters, row.options);
        REQUIRE_FALSE(identity.has_value());
        CHECK(identity.error().kind == ErrorKind::invalid);
        CHECK(identity.error().sqlstate == "28000");
        for (const auto* part : row.in_message) {
            CAPTURE(identity.error().message);
            CHECK(identity.error().message.find(part) != std::string::npos);
        }
    }
}

TEST_CASE("a way that is switched off isn't looked at") {
    SUBCASE("options") {
        const auto identity = identify_as({{"user", "app.acme"}, {"pgporter.tenant", "globex"}},
                                          {{"pgporter.tenant", "globex"}}, {.options = false});
        REQUIRE(identity.has_value());
        CHECK(identity->tenant == "acme");
        CHECK(identity->settings.empty());
    }
    SUBCASE("user suffix") {
        const auto identity =
            identify_as({{"user", "app.acme"}, {"pgporter.tenant", "globex"}}, {}, {.user_suffix = false});
        REQUIRE(identity.has_value());
        CHECK(identity->user == "app.acme");
        CHECK(identity->tenant == "globex");
    }
    SUBCASE("database") {
        const auto identity = identify_as({{"user", "app"}, {"database", "x@acme"}}, {}, {.database = false});
        REQUIRE(identity.has_value());
        CHECK(identity->database == "x@acme");
        CHECK(identity->tenant.empty());
    }
    SUBCASE("search_path") {
        const auto identity =
            identify_as({{"user", "app.globex"}, {"search_path", "acme"}}, {}, {.search_path = false});
        REQUIRE(identity.has_value());
        CHECK(identity->tenant == "globex");
        CHECK(identity->settings == Settings{{"search_path", "acme"}});
    }
}

TEST_CASE("settings: the startup packet wins over options, names ignore case, and only run-time parameters are in") {
    const auto identity = identify_as({{"user", "app"},
                                       {"database", "reports"},
                                       {"options", "-c x=1"},
                                       {"replication", "false"},
                                       {"_pq_.feature", "1"},
                                       {"client_encoding", "UTF8"},
                                       {"timezone", "UTC"},
                                       {"search_path", "acme, public"},
                                       {"application_name", "first"},
                                       {"application_name", "second"}},
                                      {{"TimeZone", "Asia/Tokyo"},
                                       {"statement_timeout", "5s"},
                                       {"pgporter.tenant", "acme"},
                                       {"statement_timeout", "9s"}});
    REQUIRE(identity.has_value());
    CHECK(identity->settings == Settings{{"TimeZone", "UTC"},
                                         {"statement_timeout", "9s"},
                                         {"client_encoding", "UTF8"},
                                         {"search_path", "acme, public"},
                                         {"application_name", "second"}});
}

TEST_CASE("a name that may not be spoken for is as good as one that doesn't exist") {
    const User* narrow = catalog->find_user("narrow");
    const auto named = [&](Settings parameters, std::string server_name = {}) {
        parameters.emplace_back("user", "narrow");
        const auto identity = identify({}, *catalog, LoginRequest{std::move(parameters), {}, std::move(server_name), narrow});
        return identity ? identity->tenant + "/" + identity->database : identity.error().message;
    };
    CHECK(named({{"database", "acme"}}) == "acme/");
    CHECK(named({{"database", "globex"}}) == "/globex");
    CHECK(named({{"pgporter.tenant", "acme"}, {"database", "globex"}}) == "acme/globex");
    CHECK(named({{"pgporter.tenant", "acme"}, {"database", "nobody"}}) == "acme/nobody");
    CHECK(named({{"pgporter.tenant", "acme"}, {"search_path", "globex_schema"}}) == "acme/");  // who sets it is told by route and path
    CHECK(named({{"search_path", "globex_schema"}}) == named({{"search_path", "nobody"}}));
    const auto unkeyed = named({{"app.tenant", "globex"}});
    auto unknown = named({{"app.tenant", "nobody"}});
    unknown.replace(unknown.find("nobody"), 6, "globex");
    CHECK(unkeyed == unknown);
}

TEST_CASE("a parameter's JSON names the tenant at login as it does in SQL") {
    const auto with = [](const char* claims, Settings more = {}, bool refuse = true) {
        IdentifyConfig config;
        config.json_settings[0].refuse_invalid = refuse;
        more.emplace_back("user", "app");
        more.emplace_back("Request.jwt.claims", claims);
        const auto identity = identify_as(std::move(more), {}, config);
        return identity ? identity->tenant : identity.error().sqlstate;
    };
    CHECK(with(R"({"app_metadata": {"tenant_id": "acme"}})") == "acme");
    CHECK(with(R"({"app_metadata": {"tenant_id": "nobody"}})") == "3D000");
    CHECK(with(R"({"app_metadata": {"tenant_id": "nobody"}})", {{"pgporter.tenant", "acme"}}) == "acme");
    CHECK(with(R"({"app_metadata": {"tenant_id": "globex"}})", {{"pgporter.tenant", "acme"}}) == "28000");
    CHECK(with("{}") == "");
    CHECK(with("no JSON") == "22023");
    CHECK(with("no JSON", {}, false) == "");
    CHECK(with(R"({"app_metadata": {"tenant_id": [1]}})", {}, false) == "");
}
