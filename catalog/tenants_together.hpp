// What must hold between tenants, and between a tenant and its database's entry, once a document is applied: unique keys and
// domains, and what isolation modes need. The pure part of CatalogStore::apply that apply_plan.cpp calls. Any thread.
#pragma once

#include "base/result.hpp"
#include "catalog/document.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

// invalid, with the document's name, line and key where it has them. Looks only at what the document says or changes: an
// older mistake elsewhere in the catalog doesn't stop an apply that has nothing to do with it.
[[nodiscard]] Result<void> check_tenants_together(const SnapshotContent& catalog, const CatalogDocument& document);

}  // namespace pgporter
