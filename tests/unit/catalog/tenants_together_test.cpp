#include "catalog/tenants_together.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

const Placement crm{PlacementKind::rows, "main", "crm", ""};

Tenant tenant_at(const std::string& name, const Placement& placement, const std::string& role = {}, const std::string& key = {}) {
    Tenant tenant;
    tenant.name = name;
    tenant.placement = placement;
    tenant.role = role;
    tenant.key = key;
    return tenant;
}

Database database(const std::string& name, Isolation isolation, const std::string& setting = {}) {
    return {"main", name, 0, isolation, setting, ""};
}

std::string problem(const SnapshotContent& catalog, const CatalogDocument& document) {
    const auto checked = check_tenants_together(catalog, document);
    if (!checked) CHECK(checked.error().kind == ErrorKind::invalid);
    return checked ? "" : checked.error().message;
}

CatalogDocument document_of(std::vector<Database> databases, std::vector<Tenant> tenants) {
    CatalogDocument document;
    document.databases = std::move(databases);
    document.tenants = std::move(tenants);
    document.origin.name = "t.yaml";
    for (std::size_t i = 0; i < document.databases.size(); ++i) document.origin.databases.push_back(10 + static_cast<int>(i));
    for (std::size_t i = 0; i < document.tenants.size(); ++i) document.origin.tenants.push_back(20 + static_cast<int>(i));
    return document;
}

SnapshotContent catalog_of(std::vector<Database> databases, std::vector<Tenant> tenants) {
    SnapshotContent content;
    content.databases = std::move(databases);
    content.tenants = std::move(tenants);
    return content;
}

}  // namespace

TEST_CASE("a key is one tenant's, and a name is the key of a tenant without one") {
    const auto catalog = catalog_of({database("crm", Isolation::app, "app.tenant")}, {tenant_at("acme", crm, "", "1"), tenant_at("globex", crm)});
    CHECK(problem(catalog, document_of({}, {tenant_at("initech", crm, "", "acme")})) == "");
    CHECK(problem(catalog, document_of({}, {tenant_at("initech", crm, "", "1")})) ==
          "t.yaml:20: tenants[0].key: tenant \"initech\": the key \"1\" is tenant \"acme\"'s");
    CHECK(problem(catalog, document_of({}, {tenant_at("initech", crm, "", "globex")})) ==
          "t.yaml:20: tenants[0].key: tenant \"initech\": the key \"globex\" is tenant \"globex\"'s");
    // The two exchange their keys: what counts is what holds afterwards.
    CHECK(problem(catalog, document_of({}, {tenant_at("acme", crm, "", "globex"), tenant_at("globex", crm, "", "1")})) == "");
    CatalogDocument without_origin;
    without_origin.tenants = {tenant_at("initech", crm, "", "1")};
    CHECK(problem(catalog, without_origin) == "tenant \"initech\": the key \"1\" is tenant \"acme\"'s");
}

TEST_CASE("a domain is one tenant's") {
    auto acme = tenant_at("acme", {PlacementKind::schema, "main", "app", "acme"});
    acme.domains = {"acme.example"};
    auto thief = tenant_at("thief", {PlacementKind::schema, "main", "app", "thief"});
    thief.domains = {"thief.example", "acme.example"};
    CHECK(problem(catalog_of({}, {acme}), document_of({}, {thief})) ==
          "t.yaml:20: tenants[0].domains: tenant \"thief\": the domain acme.example is tenant \"acme\"'s");
    acme.domains.clear();
    CHECK(problem(catalog_of({}, {acme}), document_of({}, {thief})) == "");
}

TEST_CASE("a tenant of rows needs something that says whose rows are whose") {
    const std::string missing =
        "t.yaml:20: tenants[0].placement: tenant \"acme\": database \"crm\" on cluster \"main\" has no entry with a tenant_setting or with "
        "isolation role or login: nothing would say whose rows are whose";
    CHECK(problem({}, document_of({}, {tenant_at("acme", crm)})) == missing);
    CHECK(problem({}, document_of({database("crm", Isolation::app)}, {tenant_at("acme", crm)})) == missing);
    CHECK(problem({}, document_of({database("crm", Isolation::app, "app.tenant")}, {tenant_at("acme", crm)})) == "");
    CHECK(problem(catalog_of({database("crm", Isolation::app, "app.tenant")}, {}), document_of({}, {tenant_at("acme", crm)})) == "");
    CHECK(problem({}, document_of({database("crm", Isolation::role)}, {tenant_at("acme", crm, "acme_role")})) == "");
}

TEST_CASE("isolation role and login need a role of each tenant's own, wherever it stands") {
    const std::string missing =
        "tenant \"acme\": database \"crm\" on cluster \"main\" has isolation login, so the tenant needs a role of its own";
    CHECK(problem({}, document_of({database("crm", Isolation::login)}, {tenant_at("acme", crm)})) ==
          "t.yaml:20: tenants[0].role: " + missing);
    // The tenant is the catalog's; the document changes its database.
    const auto catalog = catalog_of({database("crm", Isolation::app, "app.tenant")}, {tenant_at("acme", crm)});
    CHECK(problem(catalog, document_of({database("crm", Isolation::login)}, {})) == "t.yaml:10: databases[0].isolation: " + missing);
    CHECK(problem(catalog, document_of({database("other", Isolation::login)}, {})) == "");
    CHECK(problem(catalog, document_of({database("crm", Isolation::app)}, {})).starts_with("t.yaml:10: databases[0].tenant_setting: "));
    CHECK(problem({}, document_of({database("crm", Isolation::role)}, {tenant_at("acme", crm, "r"), tenant_at("globex", crm, "r")}))
              .starts_with("t.yaml:21: tenants[1].role: tenant \"globex\": role \"r\" is tenant \"acme\"'s"));
    // The same role in two databases is two contexts.
    const Placement other{PlacementKind::schema, "main", "other", "globex"};
    CHECK(problem({}, document_of({database("crm", Isolation::role), database("other", Isolation::role)},
                                  {tenant_at("acme", crm, "r"), tenant_at("globex", other, "r")})) == "");
}

TEST_CASE("a tenant doesn't set its database's tenant_setting, in any case") {
    auto acme = tenant_at("acme", crm);
    acme.settings = {{"App.Tenant", "globex"}};
    CHECK(problem({}, document_of({database("crm", Isolation::app, "app.tenant")}, {acme}))
              .starts_with("t.yaml:20: tenants[0].settings: tenant \"acme\": sets App.Tenant, which is the tenant_setting"));
}

TEST_CASE("a database of one tenant's own holds nobody's rows") {
    const auto own = tenant_at("own", {PlacementKind::database, "main", "crm", ""});
    const auto catalog = catalog_of({database("crm", Isolation::app, "app.tenant")}, {own});
    CHECK(problem(catalog, document_of({}, {tenant_at("acme", crm)})).find("can't be tenant \"own\"'s own") != std::string::npos);
    CHECK(problem({}, document_of({database("crm", Isolation::app, "app.tenant")}, {tenant_at("acme", crm), own})).find("can't be tenant") !=
          std::string::npos);
}

TEST_CASE("an older mistake elsewhere doesn't stop an apply that has nothing to do with it") {
    const auto catalog = catalog_of({database("crm", Isolation::login)}, {tenant_at("acme", crm), tenant_at("globex", crm, "", "acme")});
    CHECK(problem(catalog, document_of({}, {tenant_at("other", {PlacementKind::schema, "main", "app", "other"})})) == "");
}
