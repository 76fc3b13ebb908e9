// The TLS server name as a way to name the tenant.
#include <doctest/doctest.h>

#include "router/identify.hpp"
#include "tests/unit/router/catalog_of_test.hpp"

using namespace pgporter;
using Settings = std::vector<std::pair<std::string, std::string>>;

namespace {

SnapshotPtr catalog_with_domains() {
    SnapshotContent content;
    content.version = CatalogVersion{7};
    content.tenants = {test::tenant_at("acme", PlacementKind::schema, "main", "app", "acme"),
                       test::tenant_at("globex", PlacementKind::schema, "main", "app", "globex")};
    content.tenants.back().domains = {"db.globex.example", "www.globex.example"};
    return Snapshot::build(std::move(content));
}

const SnapshotPtr catalog = catalog_with_domains();

Result<Identity> identify_at(const std::string& server_name, Settings parameters = {{"user", "app"}},
                             const std::string& suffix = "tenants.example.com") {
    IdentifyConfig config;
    config.sni_suffix = suffix;
    return identify(config, *catalog, LoginRequest{std::move(parameters), {}, server_name});
}

}  // namespace

TEST_CASE("a name under the suffix is a tenant's, whether it exists or not") {
    const std::pair<const char*, const char*> rows[] = {
        {"acme.tenants.example.com", "acme"},
        {"ACME.Tenants.Example.COM", "acme"},
        {"acme.tenants.example.com.", "acme"},
        {"nobody.tenants.example.com", "nobody"},      // refused as an unknown tenant, later
        {"a.acme.tenants.example.com", "a.acme"},      // no tenant has a dot in its name
        {"tenants.example.com", ""},
        {".tenants.example.com", ""},
        {"acmetenants.example.com", ""},
        {"acme.tenants.example.com.evil.example", ""},
        {"acme.tenants.example.org", ""},
        {"acme", ""},
        {".", ""},
        {"", ""},
    };
    for (const auto& [name, tenant] : rows) {
        CAPTURE(name);
        const auto identity = identify_at(name);
        REQUIRE(identity.has_value());
        CHECK(identity->tenant == tenant);
        CHECK(identify_at(name, {{"user", "app"}}, "Tenants.Example.com")->tenant == tenant);
    }
}

TEST_CASE("without a suffix only domains name tenants") {
    CHECK(identify_at("acme.tenants.example.com", {{"user", "app"}}, "")->tenant.empty());
    CHECK(identify_at("db.globex.example", {{"user", "app"}}, "")->tenant == "globex");
}

TEST_CASE("a tenant's own domain") {
    CHECK(identify_at("db.globex.example")->tenant == "globex");
    CHECK(identify_at("DB.Globex.Example.")->tenant == "globex");
    CHECK(identify_at("www.globex.example")->tenant == "globex");
    CHECK(identify_at("globex.example")->tenant.empty());
    CHECK(identify_at("x.db.globex.example")->tenant.empty());
}

TEST_CASE("it must agree with the other ways") {
    CHECK(identify_at("acme.tenants.example.com", {{"user", "app.acme"}, {"database", "x@acme"}})->tenant == "acme");
    CHECK(identify_at("elsewhere.example", {{"user", "app.acme"}})->tenant == "acme");
    for (const char* name : {"acme.tenants.example.com", "db.globex.example"}) {
        const auto identity = identify_at(name, {{"user", "app.initech"}});
        REQUIRE_FALSE(identity.has_value());
        CHECK(identity.error().sqlstate == "28000");
        CHECK(identity.error().message.find("(TLS server name)") != std::string::npos);
        CHECK(identity.error().message.find("\"initech\" (user name)") != std::string::npos);
    }
}
