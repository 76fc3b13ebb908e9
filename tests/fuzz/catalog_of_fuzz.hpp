// A catalog for the fuzz targets of tenants named in SQL: schemas, rows, two schemas of one name, and a user who may speak for some only.
#pragma once

#include <utility>

#include "catalog/config.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter::fuzz {

inline SnapshotPtr catalog(bool with_forbidden = true) {
    const auto tenant = [](std::string name, PlacementKind kind, std::string database, std::string schema, std::string key) {
        Tenant made;
        made.name = std::move(name);
        made.placement = {kind, "main", std::move(database), std::move(schema)};
        made.key = std::move(key);
        made.epoch = Epoch{1};
        return made;
    };
    SnapshotContent content;
    content.version = CatalogVersion{1};
    content.clusters = {{"main", "127.0.0.1", 5432, ServerTls::disable, "", 100}};
    content.databases = {{"main", "rows", 0, Isolation::app, "app.tenant", "tenant_id"}};
    content.users = {{"app", "", true, {}}, {"narrow", "", false, {"acme", "row1", "twin1"}}};
    content.tenants = {
        tenant("acme", PlacementKind::schema, "app", "acme", ""),      tenant("twin1", PlacementKind::schema, "app1", "twin", ""),
        tenant("row1", PlacementKind::rows, "rows", "public", "42"),
    };
    if (with_forbidden) {
        content.tenants.push_back(tenant("globex", PlacementKind::schema, "app", "Globex", "7f3c"));
        content.tenants.push_back(tenant("twin2", PlacementKind::schema, "app2", "twin", ""));
        content.tenants.push_back(tenant("row2", PlacementKind::rows, "rows", "public", "43"));
    }
    return Snapshot::build(std::move(content));
}

}  // namespace pgporter::fuzz
