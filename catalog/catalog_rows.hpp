// The catalog's rows as values: how tenants and the rest are read with SQL. Used by the store and by the follower, each
// on a connection of its own. Control-plane threads only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "catalog/pg_connection.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

// How far the catalog is. Two marks with equal others_version and tenants_removed differ only in tenants that were
// added or changed.
struct CatalogMark {
    CatalogVersion version;
    std::int64_t others_version = 0;
    std::int64_t tenants_removed = 0;
};
struct CatalogRead {
    SnapshotContent content;
    CatalogMark mark;
};

// Inside a transaction of the caller, who decides what the reads must agree with.
[[nodiscard]] Result<CatalogMark> read_mark(PgConnection& sql);
[[nodiscard]] Result<CatalogRead> read_catalog(PgConnection& sql);
// The tenants that changed after `after`; at most `rows_max` + 1 of them.
[[nodiscard]] Result<std::vector<Tenant>> read_changed_tenants(PgConnection& sql, CatalogVersion after,
                                                               std::size_t rows_max);

// The columns of a tenant, of a table that is called t; and the tenant in a row that begins with them.
[[nodiscard]] const std::string& tenant_columns();
[[nodiscard]] Result<Tenant> tenant_from_row(const PgResult& result, int row);
inline constexpr int tenant_column_count = 18;

}  // namespace pgporter
