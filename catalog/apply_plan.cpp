#include "catalog/apply_plan.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "catalog/tenants_together.hpp"

namespace pgporter {
namespace {

template <class T>
using Index = std::unordered_map<std::string, const T*>;

// A key of several names; no name has a zero byte in it.
std::string joined(std::initializer_list<std::string_view> parts) {
    std::string key;
    for (const auto part : parts) {
        key += part;
        key += '\0';
    }
    return key;
}

std::string key_of(const Cluster& cluster) {
    return cluster.name;
}
std::string key_of(const Database& database) {
    return joined({database.cluster, database.name});
}
std::string key_of(const User& user) {
    return user.name;
}
std::string key_of(const Tenant& tenant) {
    return tenant.name;
}
std::string shown_name(const Database& database) {
    return database.cluster + "/" + database.name;
}
template <class T>
std::string shown_name(const T& item) {
    return item.name;
}

template <class T>
Index<T> index_of(const std::vector<T>& items) {
    Index<T> index;
    index.reserve(items.size());
    for (const auto& item : items) index.emplace(key_of(item), &item);
    return index;
}

class Fields {
  public:
    Fields& add(bool differs, std::string_view name) {
        if (differs) text_ += (text_.empty() ? "" : ", ") + std::string(name);
        return *this;
    }
    [[nodiscard]] std::string text() const { return text_; }

  private:
    std::string text_;
};

std::string differences(const Cluster& a, const Cluster& b) {
    return Fields{}
        .add(a.host != b.host, "host")
        .add(a.port != b.port, "port")
        .add(a.tls != b.tls, "tls")
        .add(a.tls_ca_file != b.tls_ca_file, "tls_ca_file")
        .add(a.server_connections_max != b.server_connections_max, "server_connections_max")
        .text();
}

std::string differences(const Database& a, const Database& b) {
    return Fields{}
        .add(a.server_connections_max != b.server_connections_max, "server_connections_max")
        .add(a.isolation != b.isolation, "isolation")
        .add(a.tenant_setting != b.tenant_setting, "tenant_setting")
        .add(a.tenant_column != b.tenant_column, "tenant_column")
        .add(a.server_connections_min != b.server_connections_min, "server_connections_min")
        .text();
}

std::string differences(const User& a, const User& b) {
    const bool same_tenants = a.all_tenants == b.all_tenants && (a.all_tenants || a.tenants == b.tenants);
    return Fields{}.add(a.scram_verifier != b.scram_verifier, "scram_verifier").add(!same_tenants, "tenants").text();
}

std::string differences(const Tenant& a, const Tenant& b) {
    Fields fields;
    fields.add(a.state != b.state, "state")
        .add(a.pool_mode != b.pool_mode, "pool_mode")
        .add(a.role != b.role, "role")
        .add(a.shared_schemas != b.shared_schemas, "shared_schemas")
        .add(a.server_connections_max != b.server_connections_max, "server_connections_max")
        .add(a.sessions_max != b.sessions_max, "sessions_max")
        .add(a.settings != b.settings, "settings")
        .add(a.key != b.key, "key")
        .add(a.domains != b.domains, "domains")
        .add(a.allowed_addresses != b.allowed_addresses, "allowed_addresses");
    for (const auto& field : tenant_limit_fields) fields.add(a.limits.*field.value != b.limits.*field.value, std::string(field.name));
    return fields.text();
}

// Adds what differs of one kind to the plan and its report.
template <class T>
void compare(std::string_view kind, const std::vector<T>& wanted, const Index<T>& present, std::vector<T>& to_write,
             ApplyReport& report) {
    for (const auto& item : wanted) {
        const auto found = present.find(key_of(item));
        if (found == present.end()) {
            report.changes.push_back({"create", std::string(kind), shown_name(item), {}});
            ++report.created;
        } else if (std::string what = differences(*found->second, item); !what.empty()) {
            report.changes.push_back({"change", std::string(kind), shown_name(item), std::move(what)});
            ++report.changed;
        } else {
            ++report.unchanged;
            continue;
        }
        to_write.push_back(item);
    }
}

Error unknown_name(const std::string& who, const std::string& what, const std::string& name) {
    return fail(ErrorKind::invalid,
                who + " names " + what + " \"" + name + "\", which neither the document nor the catalog has");
}

std::string place_of(const Placement& placement) {
    std::string text(to_text(placement.kind));
    text += " placement, cluster " + placement.cluster + ", database " + placement.database;
    if (!placement.schema.empty()) text += ", schema " + placement.schema;
    return text;
}

Result<void> check_clusters_exist(const CatalogDocument& document, const Index<Cluster>& present) {
    const auto wanted = index_of(document.clusters);
    const auto exists = [&](const std::string& name) { return present.contains(name) || wanted.contains(name); };
    for (const auto& database : document.databases) {
        if (!exists(database.cluster))
            return unknown_name("database \"" + database.name + "\"", "cluster", database.cluster);
    }
    for (const auto& tenant : document.tenants) {
        const auto& cluster = tenant.placement.cluster;
        if (!exists(cluster)) return unknown_name("tenant \"" + tenant.name + "\"", "cluster", cluster);
    }
    return {};
}

Result<void> check_users(const CatalogDocument& document, const Index<Tenant>& present) {
    const auto wanted = index_of(document.tenants);
    for (const auto& user : document.users) {
        for (const auto& tenant : user.tenants) {
            if (present.contains(tenant) || wanted.contains(tenant)) continue;
            return unknown_name("user \"" + user.name + "\"", "tenant", tenant);
        }
    }
    return {};
}

// Only a move changes where a tenant lives, and no two tenants live in one place.
Result<void> check_placements(const CatalogDocument& document, const SnapshotContent& catalog,
                              const Index<Tenant>& present) {
    std::unordered_map<std::string, const std::string*> owners;
    const auto place_key = [](const Placement& p) { return joined({p.cluster, p.database, p.schema}); };
    for (const auto& tenant : catalog.tenants) {
        if (tenant.placement.kind != PlacementKind::rows) owners.emplace(place_key(tenant.placement), &tenant.name);
    }
    for (const auto& tenant : document.tenants) {
        const auto found = present.find(tenant.name);
        if (found != present.end() && found->second->placement != tenant.placement) {
            return fail(ErrorKind::conflict,
                        "tenant \"" + tenant.name + "\" lives elsewhere: only a move changes a placement",
                        "catalog: " + place_of(found->second->placement) + "; document: " + place_of(tenant.placement),
                        "promote the tenant, or write its present placement into the document");
        }
        if (tenant.placement.kind == PlacementKind::rows) continue;  // that is what rows are for
        const auto [owner, added] = owners.emplace(place_key(tenant.placement), &tenant.name);
        if (!added && *owner->second != tenant.name) {
            return fail(ErrorKind::invalid,
                        "tenants \"" + *owner->second + "\" and \"" + tenant.name + "\" would live in the same place",
                        place_of(tenant.placement), "give each tenant a schema or a database of its own");
        }
    }
    return {};
}

// What is promised must be there: by cluster, the sum of server_connections_min as it will be, against the cap.
Result<void> check_guarantees(const SnapshotContent& catalog, const CatalogDocument& document) {
    std::unordered_map<std::string, std::uint64_t> promised;
    const auto wanted = index_of(document.tenants);
    for (const auto& tenant : catalog.tenants) {
        const auto changed = wanted.find(tenant.name);
        const auto& limits = changed == wanted.end() ? tenant.limits : changed->second->limits;
        promised[tenant.placement.cluster] += limits.server_connections_min;
    }
    const auto present = index_of(catalog.tenants);
    for (const auto& tenant : document.tenants) {
        if (!present.contains(tenant.name)) promised[tenant.placement.cluster] += tenant.limits.server_connections_min;
    }
    const auto databases = index_of(document.databases);
    for (const auto& database : document.databases) promised[database.cluster] += database.server_connections_min;
    for (const auto& database : catalog.databases) {
        if (!databases.contains(key_of(database))) promised[database.cluster] += database.server_connections_min;
    }
    const auto clusters = index_of(document.clusters);
    const auto check = [&](const Cluster& cluster) -> Result<void> {
        const auto sum = promised[cluster.name];
        if (sum <= cluster.server_connections_max) return {};
        return fail(ErrorKind::invalid, "the tenants and databases of cluster \"" + cluster.name + "\" are promised " + std::to_string(sum) +
                                            " server connections (server_connections_min), but it may have only " +
                                            std::to_string(cluster.server_connections_max),
                    {}, "lower server_connections_min of some of them, or raise server_connections_max of the cluster");
    };
    for (const auto& cluster : document.clusters) PP_TRY(check(cluster));
    for (const auto& cluster : catalog.clusters) {
        if (!clusters.contains(cluster.name)) PP_TRY(check(cluster));
    }
    return {};
}

}  // namespace

Result<ApplyPlan> plan_apply(const SnapshotContent& catalog, const CatalogDocument& document) {
    const auto clusters = index_of(catalog.clusters);
    const auto tenants = index_of(catalog.tenants);
    PP_TRY(check_clusters_exist(document, clusters));
    PP_TRY(check_users(document, tenants));
    PP_TRY(check_placements(document, catalog, tenants));
    PP_TRY(check_tenants_together(catalog, document));
    PP_TRY(check_guarantees(catalog, document));
    ApplyPlan plan;
    compare("cluster", document.clusters, clusters, plan.clusters, plan.report);
    compare("database", document.databases, index_of(catalog.databases), plan.databases, plan.report);
    compare("tenant", document.tenants, tenants, plan.tenants, plan.report);
    compare("user", document.users, index_of(catalog.users), plan.users, plan.report);
    return plan;
}

}  // namespace pgporter
