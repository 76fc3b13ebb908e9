#include "router/access.hpp"

#include <doctest/doctest.h>

#include "tests/unit/router/catalog_of_test.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

SnapshotPtr catalog_with(Isolation isolation, const std::string& setting) {
    SnapshotContent content;
    content.databases = {{"main", "app", 0, isolation, setting, ""}};
    return Snapshot::build(std::move(content));
}

Tenant tenant_of(PlacementKind kind, const std::string& role = {}, const std::string& key = {}) {
    Tenant tenant = tenant_at("acme", kind, "main", "app", kind == PlacementKind::rows ? "" : "acme");
    tenant.role = role;
    tenant.key = key;
    return tenant;
}

Config config_with_login(const std::string& cluster, const std::string& user) {
    Config config;
    config.server_logins.push_back({cluster, user, Secret("secret")});
    return config;
}

}  // namespace

TEST_CASE("isolation app: the session's own login, the tenant's role if it has one") {
    const auto snapshot = catalog_with(Isolation::app, "");
    CHECK(*access_for({}, *snapshot, tenant_of(PlacementKind::schema), "app") == Access{"app", "", "", "", false, false});
    CHECK(*access_for({}, *snapshot, tenant_of(PlacementKind::schema, "acme_role"), "app") == Access{"app", "acme_role", "", "", false, false});
    // A database without an entry.
    auto elsewhere = tenant_of(PlacementKind::schema);
    elsewhere.placement.database = "other";
    CHECK(*access_for({}, *snapshot, elsewhere, "app") == Access{"app", "", "", "", false, false});
}

TEST_CASE("the tenant setting is the tenant's key, whatever the kind of tenant; it is guarded where SQL doesn't name tenants by it") {
    const auto snapshot = catalog_with(Isolation::app, "App.Tenant");
    for (const auto kind : {PlacementKind::rows, PlacementKind::schema}) {
        CHECK(*access_for({}, *snapshot, tenant_of(kind), "app") == Access{"app", "", "App.Tenant", "acme", false, false});
        CHECK(access_for({}, *snapshot, tenant_of(kind, "", "42"), "app")->setting_value == "42");
    }
    Config config;
    config.identify.sql = false;
    CHECK(access_for(config, *snapshot, tenant_of(PlacementKind::rows), "app")->guards_setting);
    config.identify.sql = true;
    config.identify.tenant_settings = {"other.tenant"};
    CHECK(access_for(config, *snapshot, tenant_of(PlacementKind::rows), "app")->guards_setting);
}

TEST_CASE("isolation role: the tenant's role, which the client must not leave") {
    const auto snapshot = catalog_with(Isolation::role, "");
    CHECK(*access_for({}, *snapshot, tenant_of(PlacementKind::rows, "acme_role"), "app") == Access{"app", "acme_role", "", "", true, false});
    const auto missing = access_for({}, *snapshot, tenant_of(PlacementKind::schema), "app");
    REQUIRE_FALSE(missing.has_value());
    CHECK(missing.error().sqlstate == "58000");
    CHECK(missing.error().message == "tenant \"acme\" can't be served: its database has isolation role and the tenant has no role");
}

TEST_CASE("isolation login: as the tenant's role, with its password from server_logins, never as anybody else") {
    const auto snapshot = catalog_with(Isolation::login, "app.tenant");
    const auto tenant = tenant_of(PlacementKind::rows, "acme_role", "42");
    CHECK(*access_for(config_with_login("main", "acme_role"), *snapshot, tenant, "app") ==
          Access{"acme_role", "", "app.tenant", "42", false, false});
    CHECK(access_for(config_with_login("*", "*"), *snapshot, tenant, "app").has_value());
    for (const auto& config : {Config{}, config_with_login("other", "acme_role"), config_with_login("main", "app")}) {
        const auto refused = access_for(config, *snapshot, tenant, "app");
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().sqlstate == "58000");
        CHECK(refused.error().message.find("has no password for the tenant's role \"acme_role\"") != std::string::npos);
    }
    CHECK_FALSE(access_for(config_with_login("*", "*"), *snapshot, tenant_of(PlacementKind::rows), "app").has_value());
}

TEST_CASE("a tenant of rows that nothing keeps apart isn't served") {
    CHECK_FALSE(access_for({}, *catalog_with(Isolation::app, ""), tenant_of(PlacementKind::rows), "app").has_value());
    CHECK_FALSE(access_for({}, *Snapshot::build({}), tenant_of(PlacementKind::rows), "app").has_value());
}

TEST_CASE("what a client asks for at startup leaves what is guarded alone") {
    const Access role{"app", "acme_role", "app.tenant", "42", true, false};
    const auto sqlstate = [](const Access& access, const std::string& name, const std::string& value) {
        const auto trouble = startup_settings_trouble(access, {{"work_mem", "1MB"}, {name, value}});
        return trouble ? trouble->sqlstate : "";
    };
    CHECK(sqlstate(role, "role", "globex_role") == "42501");
    CHECK(sqlstate(role, "ROLE", "none") == "42501");
    CHECK(sqlstate(role, "role", "acme_role") == "");
    CHECK(sqlstate(role, "session_authorization", "postgres") == "42501");
    CHECK(sqlstate(role, "standard_conforming_strings", "off") == "42501");
    CHECK(sqlstate(role, "standard_conforming_strings", "on") == "");
    CHECK(sqlstate(role, "App.Tenant", "43") == "28000");
    CHECK(sqlstate(role, "app.tenant", "42") == "");
    const Access plain{"app", "acme_role", "", "", false, false};
    CHECK(sqlstate(plain, "role", "globex_role") == "");  // PostgreSQL's grants decide
    CHECK(sqlstate(plain, "app.tenant", "43") == "");
}

TEST_CASE("what is true after a transaction is compared with what is guarded") {
    const std::string key = "42";
    const std::string other = "43";
    CHECK_FALSE(left_access({"app", "r", "app.tenant", "42", true, true}, "r", &key).has_value());
    CHECK(left_access({"app", "r", "app.tenant", "42", true, true}, "", &key)->sqlstate == "42501");
    CHECK(left_access({"app", "r", "app.tenant", "42", true, true}, "r", &other)->sqlstate == "42501");
    CHECK_FALSE(left_access({"app", "r", "app.tenant", "42", true, true}, "r", nullptr).has_value());
    const std::string was_reset;
    CHECK_FALSE(left_access({"app", "r", "app.tenant", "42", true, true}, "r", &was_reset).has_value());
    CHECK_FALSE(left_access({"app", "r", "app.tenant", "42", false, false}, "other", &other).has_value());
}
