#include "catalog/apply_plan.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

Tenant tenant_at(const std::string& name, const Placement& placement) {
    Tenant tenant;
    tenant.name = name;
    tenant.placement = placement;
    return tenant;
}

const Placement acme_place{PlacementKind::schema, "main", "app", "acme"};

SnapshotContent catalog() {
    SnapshotContent content;
    content.clusters = {{"main", "127.0.0.1", 5432, ServerTls::disable, "", 10}};
    content.users = {{"app", "verifier", true, {}}};
    content.tenants = {tenant_at("acme", acme_place)};
    content.tenants[0].id = TenantId{7};
    content.tenants[0].epoch = Epoch{3};
    return content;
}

}  // namespace

TEST_CASE("what is the same isn't written; ids and epochs are the store's own") {
    CatalogDocument document{catalog().clusters, {}, catalog().users, {tenant_at("acme", acme_place)}};
    document.users[0].tenants = {"acme"};  // doesn't matter beside all_tenants
    const auto plan = plan_apply(catalog(), document);
    REQUIRE(plan.has_value());
    CHECK(plan->empty());
    CHECK(plan->report.unchanged == 3);
}

TEST_CASE("each field that differs is named") {
    CatalogDocument document{
        catalog().clusters, {{"main", "app", 2}}, catalog().users, {tenant_at("acme", acme_place)}};
    document.clusters[0] = {"main", "127.0.0.2", 1, ServerTls::verify_ca, "/ca", 11};
    document.users[0] = {"app", "other", false, {"acme"}};
    auto& tenant = document.tenants[0];
    tenant.state = TenantState::suspended;
    tenant.pool_mode = PoolMode::session;
    tenant.role = "r";
    tenant.shared_schemas = {};
    tenant.server_connections_max = 1;
    tenant.sessions_max = 1;
    tenant.settings = {{"a", "b"}};
    tenant.key = "k";
    tenant.domains = {"a.example"};
    tenant.allowed_addresses = {"10.0.0.0/8"};
    tenant.limits = {1, 2, 3, 4, 5, 6};
    const auto plan = plan_apply(catalog(), document);
    REQUIRE(plan.has_value());
    REQUIRE(plan->report.changes.size() == 4);
    CHECK(plan->report.changes[0].what == "host, port, tls, tls_ca_file, server_connections_max");
    CHECK(plan->report.changes[1].action == "create");
    CHECK(plan->report.changes[1].name == "main/app");
    CHECK(plan->report.changes[2].what ==
          "state, pool_mode, role, shared_schemas, server_connections_max, sessions_max, settings, "
          "key, domains, allowed_addresses, server_connections_min, transactions_per_second_max, kib_per_second_max, statement_ms_max, "
          "transaction_ms_max, idle_in_transaction_ms_max");
    CHECK(plan->report.changes[3].what == "scram_verifier, tenants");
    CHECK(plan->report.created == 1);
    CHECK(plan->report.changed == 3);
}

TEST_CASE("more connections than a cluster has can't be promised") {
    SnapshotContent present = catalog();
    present.tenants[0].limits.server_connections_min = 2;
    const auto cap = present.clusters[0].server_connections_max;
    CatalogDocument document{{}, {}, {}, {tenant_at("globex", {PlacementKind::schema, "main", "app", "globex"})}};
    document.tenants[0].limits.server_connections_min = cap - 2;
    CHECK(plan_apply(present, document).has_value());
    document.tenants[0].limits.server_connections_min = cap - 1;
    const auto refused = plan_apply(present, document);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message.find("are promised " + std::to_string(cap + 1)) != std::string::npos);
    document.clusters = present.clusters;
    document.clusters[0].server_connections_max = cap + 1;
    CHECK(plan_apply(present, document).has_value());
}

TEST_CASE("names must be known to the document or the catalog") {
    const auto message = [](CatalogDocument document) {
        const auto plan = plan_apply(catalog(), document);
        REQUIRE_FALSE(plan.has_value());
        CHECK(plan.error().kind == ErrorKind::invalid);
        return plan.error().message;
    };
    CHECK(message({{}, {{"west", "x", 0}}, {}, {}}) ==
          "database \"x\" names cluster \"west\", which neither the document nor the catalog has");
    CHECK(message({{}, {}, {}, {tenant_at("x", {PlacementKind::database, "west", "x", ""})}}) ==
          "tenant \"x\" names cluster \"west\", which neither the document nor the catalog has");
    CHECK(message({{}, {}, {{"u", "", false, {"acme", "nobody"}}}, {}}) ==
          "user \"u\" names tenant \"nobody\", which neither the document nor the catalog has");
}

TEST_CASE("nobody moves, and nobody moves in with another") {
    const auto kind = [](const std::string& name, const Placement& placement) {
        const auto plan = plan_apply(catalog(), {{}, {}, {}, {tenant_at(name, placement)}});
        return plan ? ErrorKind::cancelled : plan.error().kind;  // cancelled stands for none
    };
    CHECK(kind("acme", acme_place) == ErrorKind::cancelled);
    CHECK(kind("acme", {PlacementKind::database, "main", "app", "acme"}) == ErrorKind::conflict);
    CHECK(kind("acme", {PlacementKind::schema, "main", "app2", "acme"}) == ErrorKind::conflict);
    CHECK(kind("thief", acme_place) == ErrorKind::invalid);
    CHECK(kind("thief", {PlacementKind::database, "main", "app", "acme"}) == ErrorKind::invalid);
    CHECK(kind("other", {PlacementKind::schema, "main", "app2", "acme"}) == ErrorKind::cancelled);
    const Placement new_place{PlacementKind::schema, "main", "app", "x"};
    CHECK_FALSE(
        plan_apply(catalog(), {{}, {}, {}, {tenant_at("x", new_place), tenant_at("y", new_place)}}).has_value());
}
