// Who is named by what a session has set.
#include "router/tenant_in_sql.hpp"

#include <doctest/doctest.h>

#include "tests/unit/router/catalog_of_test.hpp"

using namespace pgporter;

namespace {

SnapshotPtr catalog_with_rows() {
    SnapshotContent content;
    content.version = CatalogVersion{1};
    content.clusters = {{"main", "127.0.0.1", 5432, ServerTls::disable, "", 100}};
    content.databases = {{"main", "rows", 0, Isolation::app, "app.tenant_id", "tenant_id"}};
    content.users = {{"app", "", true, {}}, {"narrow", "", false, {"acme", "42", "alone", "twin1"}}};
    content.tenants = {
        test::tenant_at("acme", PlacementKind::schema, "main", "app", "acme"),
        test::tenant_at("globex", PlacementKind::schema, "main", "app", "globex"),
        test::tenant_at("twin1", PlacementKind::schema, "main", "app", "twin"),
        test::tenant_at("twin2", PlacementKind::schema, "main", "app2", "twin"),
        test::tenant_at("alone", PlacementKind::database, "main", "alone_db", "alone"),
        test::tenant_at("42", PlacementKind::rows, "main", "rows", "public"),
    };
    content.tenants[0].shared_schemas = {"public", "lookup"};
    return Snapshot::build(std::move(content));
}

struct Who {
    SnapshotPtr catalog = catalog_with_rows();
    IdentifyConfig config;
    Asker asker{catalog->find_user("app"), {}, {}, "main", "app"};

    std::string by(const ScopedSettings::Values& values) const {
        const auto named = tenant_in_force(config, *catalog, asker, values);
        return named ? *named : named.error().sqlstate;
    }
    std::string by(std::string setting, std::string value) const { return by({{std::move(setting), std::move(value)}}); }
    std::string refusal(std::string setting, std::string value) const {
        const auto named = tenant_named_by(config, *catalog, asker, setting, value);
        REQUIRE_FALSE(named.has_value());
        return named.error().message + "|" + named.error().detail + "|" + named.error().hint + "|" + named.error().sqlstate;
    }
};

std::string replaced(std::string text, std::string_view what, std::string_view with) {
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) text.replace(at, what.size(), with);
    return text;
}

}  // namespace

TEST_CASE("which settings name tenants") {
    const IdentifyConfig config;
    for (const char* name : {"search_path", "pgporter.tenant", "app.tenant", "app.organisationid", "request.jwt.claims"}) CHECK(names_tenants(config, name));
    for (const char* name : {"", "role", "app.tenants", "request.jwt.claim", "pgporter"}) CHECK_FALSE(names_tenants(config, name));
}

TEST_CASE("each way") {
    const Who who;
    CHECK(who.by({}) == "");
    CHECK(who.by("pgporter.tenant", "acme") == "acme");
    CHECK(who.by("app.tenant", "acme") == "acme");
    CHECK(who.by("app.organisationid", "globex") == "globex");
    CHECK(who.by("search_path", "acme, public") == "acme");
    CHECK(who.by("search_path", "public, \"$user\", pg_catalog") == "");
    CHECK(who.by("search_path", "ACME") == "acme");
    CHECK(who.by("search_path", "\"ACME\"") == "3F000");
    CHECK(who.by("search_path", "acme,acme") == "acme");
    CHECK(who.by("search_path", "") == "");
    CHECK(who.by("search_path", "acme, lookup") == "acme");
    CHECK(who.by("search_path", "lookup, acme") == "acme");
    CHECK(who.by("search_path", "globex, lookup") == "3F000");
    CHECK(who.by("search_path", "acme, globex") == "0A000");
    CHECK(who.by("search_path", "\"acme,public\"") == "3F000");
    CHECK(who.by("work_mem", "acme") == "");
}

TEST_CASE("all that name somebody must agree") {
    const Who who;
    CHECK(who.by({{"app.tenant", "acme"}, {"search_path", "acme"}, {"pgporter.tenant", "acme"}}) == "acme");
    CHECK(who.by({{"app.tenant", "acme"}, {"search_path", "globex"}}) == "28000");
    CHECK(who.by({{"app.tenant", ""}, {"search_path", "globex"}}) == "globex");
    CHECK(who.by({{"search_path", "public"}, {"pgporter.tenant", "globex"}}) == "globex");
}

TEST_CASE("JSON") {
    const Who who;
    const auto claims = [&](std::string text) { return who.by("request.jwt.claims", std::move(text)); };
    CHECK(claims(R"({"app_metadata": {"tenant_id": "acme"}})") == "acme");
    CHECK(claims(R"({"app_metadata": {"tenant_id": 42}})") == "42");
    CHECK(claims(R"({"app_metadata": {"tenant_id": "\u0061cme"}})") == "acme");
    CHECK(claims(R"({"app_metadata": {"tenant_id": null}})") == "");
    CHECK(claims(R"({"app_metadata": {"tenant_id": ""}})") == "");
    CHECK(claims(R"({"app_metadata": {}})") == "");
    CHECK(claims(R"({"app_metadata": "x"})") == "");
    CHECK(claims(R"({"app_metadata.tenant_id": "acme"})") == "");
    CHECK(claims(R"([])") == "");
    CHECK(claims("") == "");
    CHECK(claims(R"({"app_metadata": {"tenant_id": "nobody"}})") == "3D000");
    CHECK(claims(R"({"app_metadata": {"tenant_id": ["acme"]}})") == "22023");
    CHECK(claims(R"({"app_metadata": {"tenant_id": true}})") == "22023");
    CHECK(claims(R"({"app_metadata": {"tenant_id": "x)") == "22023");
    CHECK(claims("x") == "22023");
    CHECK(claims("{} x") == "22023");
    CHECK(claims("{\"a\": \"\xFF\"}") == "22023");
    CHECK(claims(std::string(60'000, '[')) == "22023");
    CHECK(claims("\"" + std::string(70'000, 'x') + "\"") == "22023");
    // Of two members with one name, the last counts, for PostgreSQL too.
    CHECK(claims(R"({"app_metadata": {"tenant_id": "globex", "tenant_id": "acme"}})") == "acme");
}

TEST_CASE("JSON that says nothing names nobody, where that is configured") {
    Who who;
    who.config.json_settings[0].refuse_invalid = false;
    for (const char* text : {"", "x", "{} x", "[1", R"({"app_metadata": {"tenant_id": ["acme"]}})", R"({"app_metadata": {"tenant_id": true}})"}) {
        CHECK(who.by("request.jwt.claims", text) == "");
    }
    CHECK(who.by("request.jwt.claims", "\"" + std::string(70'000, 'x') + "\"") == "");
    CHECK(who.by("request.jwt.claims", R"({"app_metadata": {"tenant_id": "acme"}})") == "acme");
    CHECK(who.by("request.jwt.claims", R"({"app_metadata": {"tenant_id": "nobody"}})") == "3D000");
}

TEST_CASE("who may not be spoken for can't be told from who doesn't exist") {
    Who who;
    who.asker.user = who.catalog->find_user("narrow");
    CHECK(who.by("app.tenant", "acme") == "acme");
    const std::pair<std::string, std::string> forms[] = {
        {"pgporter.tenant", "?"}, {"app.tenant", "?"}, {"request.jwt.claims", R"({"app_metadata": {"tenant_id": "?"}})"}, {"search_path", "public, ?"}};
    for (const auto& [setting, value] : forms) {
        INFO(setting);
        const std::string forbidden = who.refusal(setting, replaced(value, "?", "globex"));
        const std::string unknown = who.refusal(setting, replaced(value, "?", "nobody"));
        CHECK(replaced(forbidden, "globex", "nobody") == unknown);
    }
}

TEST_CASE("schemas of one name in several databases") {
    Who who;
    CHECK(who.by("search_path", "twin") == "twin1");  // lives where the session is
    who.asker.database = "app2";
    CHECK(who.by("search_path", "twin") == "twin2");
    who.asker.database = "rows";
    CHECK(who.by("search_path", "twin") == "28000");
    who.asker.current_tenant = "twin2";
    CHECK(who.by("search_path", "twin") == "twin2");
    who.asker.current_tenant = {};
    CHECK(who.by({{"pgporter.tenant", "twin1"}, {"search_path", "twin"}}) == "twin1");
    who.asker.user = who.catalog->find_user("narrow");
    CHECK(who.by("search_path", "twin") == "twin1");  // the other may not be spoken for
}

TEST_CASE("with a tenant of the login's, settings may be the application's own") {
    Who who;
    who.asker.login_tenant = who.asker.current_tenant = "acme";
    CHECK(who.by({}) == "acme");
    CHECK(who.by("search_path", "public") == "acme");
    CHECK(who.by("search_path", "reports, acme") == "acme");
    CHECK(who.by("search_path", "globex") == "globex");
    CHECK(who.by("app.workspace_id", "anything") == "acme");
    CHECK(who.by("request.jwt.claims", R"({"app_metadata": {"tenant_id": "anything"}})") == "acme");
    CHECK(who.by("app.workspace_id", "globex") == "globex");
    CHECK(who.by("pgporter.tenant", "anything") == "3D000");
    who.asker.user = who.catalog->find_user("narrow");
    CHECK(who.by("search_path", "globex") == "3F000");
    CHECK(who.by("app.workspace_id", "globex") == "3D000");
}

TEST_CASE("with a tenant of the login's, who may not be spoken for can't be told from who doesn't exist either") {
    Who who;
    who.asker.user = who.catalog->find_user("narrow");
    for (const char* login : {"acme", "alone", "42"}) {
        who.asker.login_tenant = who.asker.current_tenant = login;
        const std::pair<std::string, std::string> forms[] = {{"app.tenant", "globex"}, {"search_path", "globex"}, {"search_path", "public, globex"},
            {"search_path", "acme, globex"}, {"request.jwt.claims", R"({"app_metadata": {"tenant_id": "globex"}})"}, {"pgporter.tenant", "globex"}};
        for (const auto& [setting, value] : forms) {
            INFO(login, " ", setting, " ", value);
            CHECK(who.by(setting, value) == who.by(setting, replaced(value, "globex", "nobody")));
        }
    }
    // In a database of its own a tenant calls its schemas as it likes; but that isn't taken along to where others live.
    who.asker.login_tenant = who.asker.current_tenant = "alone";
    CHECK(who.by("search_path", "globex") == "alone");
    CHECK(who.by({{"app.tenant", "acme"}, {"search_path", "globex"}}) == "3F000");
    CHECK(who.by({{"app.tenant", "acme"}, {"search_path", "nobody"}}) == "3F000");
    CHECK(who.by({{"app.tenant", "acme"}, {"search_path", "public"}}) == "acme");
    CHECK(who.by("app.tenant", "globex") == "alone");
    CHECK(who.by({{"app.workspace_id", "globex"}, {"search_path", "acme"}}) == "3D000");
    who.asker.login_tenant = who.asker.current_tenant = "acme";
    CHECK(who.by("search_path", "globex") == "3F000");
    CHECK(who.by("search_path", "lookup, nobody") == "3F000");  // each schema counts, not the first
    CHECK(who.by("search_path", "lookup, public") == "acme");
}

TEST_CASE("what row-level security reads is never the application's own") {
    Who who;
    who.asker.login_tenant = who.asker.current_tenant = "42";
    who.asker.database = "rows";
    CHECK(who.by("app.tenant_id", "42") == "42");
    CHECK(who.by("app.tenant_id", "43") == "3D000");
    CHECK(who.by("app.workspace_id", "43") == "3D000");  // of a rows tenant, each setting is taken at its word
    CHECK(who.by("request.jwt.claims", R"({"app_metadata": {"tenant_id": "43"}})") == "3D000");
    who.asker.login_tenant = who.asker.current_tenant = "acme";
    CHECK(who.by("app.tenant_id", "43") == "3D000");
    CHECK(who.by("app.workspace_id", "43") == "acme");
}
