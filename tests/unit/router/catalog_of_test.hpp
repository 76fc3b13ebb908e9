// A small catalog for the router's tests: three tenants that differ, and two whose schemas have the same name.
#pragma once

#include "catalog/snapshot.hpp"

namespace pgporter::test {

inline Tenant tenant_at(std::string name, PlacementKind kind, std::string cluster, std::string database,
                        std::string schema) {
    Tenant tenant;
    tenant.name = std::move(name);
    tenant.placement = {kind, std::move(cluster), std::move(database), std::move(schema)};
    tenant.epoch = Epoch{1};
    return tenant;
}

inline SnapshotPtr router_catalog() {
    SnapshotContent content;
    content.version = CatalogVersion{7};
    content.clusters = {{"main", "127.0.0.1", 5432, ServerTls::disable, "", 100}};
    content.databases = {{"main", "reports", 0}};
    content.users = {{"app", "", true, {}}, {"dotted.name", "", true, {}}, {"narrow", "", false, {"acme", "moved"}}};
    content.tenants = {
        tenant_at("acme", PlacementKind::schema, "main", "app", "acme"),
        tenant_at("globex", PlacementKind::schema, "main", "app", "globex_schema"),
        tenant_at("mixed", PlacementKind::schema, "main", "app", "Mixed Case"),
        tenant_at("moved", PlacementKind::database, "main", "moved_db", "moved"),
        tenant_at("own", PlacementKind::database, "main", "own_db", "public"),
        tenant_at("twin1", PlacementKind::schema, "main", "app1", "twin"),
        tenant_at("twin2", PlacementKind::schema, "main", "app2", "twin"),
        tenant_at("lost", PlacementKind::schema, "gone", "app", "lost"),
    };
    content.tenants.push_back(tenant_at("asleep", PlacementKind::schema, "main", "app", "asleep"));
    content.tenants.back().state = TenantState::suspended;
    return Snapshot::build(std::move(content));
}

}  // namespace pgporter::test
