// tenants.yaml: clusters, databases, users and tenants as an operator writes them, and the report of applying them.
// Parsing is pure (errors with name, line and key, as in catalog/config_loader.hpp); applying is CatalogStore::apply. Any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {

// Where a document's entries stand in its text: for what only the catalog can find wrong.
struct DocumentOrigin {
    std::string name;             // of the file; empty: the document wasn't read from a text
    std::vector<int> databases;   // the first line of each entry
    std::vector<int> tenants;
    // "tenants.yaml:12: tenants[3].role: "; empty when the document wasn't read from a text.
    [[nodiscard]] std::string tenant(std::size_t index, std::string_view key) const;
    [[nodiscard]] std::string database(std::size_t index, std::string_view key) const;
};

struct CatalogDocument {
    std::vector<Cluster> clusters;
    std::vector<Database> databases;
    std::vector<User> users;
    std::vector<Tenant> tenants;  // id and epoch are the store's
    DocumentOrigin origin;
};

struct ApplyChange {
    std::string action;  // "create", "change" or "unchanged"
    std::string kind;    // "cluster", "database", "user", "tenant"
    std::string name;
    std::string what;    // for "change": the fields, never a secret
};
struct ApplyReport {
    std::vector<ApplyChange> changes;  // without the unchanged ones
    std::size_t created = 0;
    std::size_t changed = 0;
    std::size_t unchanged = 0;
};

[[nodiscard]] Result<CatalogDocument> parse_catalog_document(const std::string& yaml, const std::string& name);

}  // namespace pgporter
