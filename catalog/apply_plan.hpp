// What has to be written so that the catalog matches a document: the pure part of CatalogStore::apply. Any thread.
#pragma once

#include <vector>

#include "base/result.hpp"
#include "catalog/document.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

struct ApplyPlan {
    ApplyReport report;
    std::vector<Cluster> clusters;  // to be created or changed, in the order of the document
    std::vector<Database> databases;
    std::vector<User> users;
    std::vector<Tenant> tenants;
    [[nodiscard]] bool empty() const { return report.changes.empty(); }
};

// invalid: a name that neither the document nor the catalog knows; two tenants in one place, of one key or one domain; a
// tenant without what its database's isolation needs.
// conflict: a tenant that the catalog has elsewhere.
[[nodiscard]] Result<ApplyPlan> plan_apply(const SnapshotContent& catalog, const CatalogDocument& document);

}  // namespace pgporter
