#include "catalog/tenants_together.hpp"

#include <limits>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "catalog/setting_name.hpp"

namespace pgporter {
namespace {

constexpr std::size_t not_in_document = std::numeric_limits<std::size_t>::max();

struct Entry {
    const Tenant* tenant;
    std::size_t index;  // in the document
};
struct Place {
    const Database* database;
    std::size_t index;  // in the document
};
using DatabaseName = std::pair<std::string, std::string>;  // cluster, name

std::string quoted(const std::string& text) {
    return '"' + text + '"';
}

// Everything as it will be; the catalog's own first, so that of two that collide the document's is the one that is blamed.
class Together {
  public:
    Together(const SnapshotContent& catalog, const CatalogDocument& document) : document_(document) {
        std::unordered_set<std::string_view> named;
        for (const auto& tenant : document.tenants) named.insert(tenant.name);
        for (const auto& tenant : catalog.tenants) {
            if (!named.contains(tenant.name)) entries_.push_back({&tenant, not_in_document});
        }
        for (std::size_t i = 0; i < document.tenants.size(); ++i) entries_.push_back({&document.tenants[i], i});
        for (const auto& database : catalog.databases) put({&database, not_in_document});
        for (std::size_t i = 0; i < document.databases.size(); ++i) put({&document.databases[i], i});
    }

    Result<void> check_names() const {
        std::unordered_map<std::string_view, const Tenant*> keys;
        std::unordered_map<std::string_view, const Tenant*> domains;
        for (const auto& entry : entries_) {
            const Tenant& tenant = *entry.tenant;
            const auto [owner, is_new] = keys.emplace(tenant_key(tenant), &tenant);
            if (!is_new && entry.index != not_in_document) {
                return wrong(entry, "key", "the key " + quoted(tenant_key(tenant)) + " is tenant " + quoted(owner->second->name) + "'s",
                             "a tenant without a key has its name; give each a key of its own");
            }
            for (const auto& domain : tenant.domains) {
                const auto [holder, is_free] = domains.emplace(domain, &tenant);
                if (is_free || entry.index == not_in_document) continue;
                return wrong(entry, "domains", "the domain " + domain + " is tenant " + quoted(holder->second->name) + "'s",
                             "a domain names one tenant");
            }
        }
        return {};
    }

    Result<void> check_isolation() const {
        std::map<DatabaseName, Crowd> crowds;
        for (const auto& entry : entries_) {
            const Tenant& tenant = *entry.tenant;
            const DatabaseName name{tenant.placement.cluster, tenant.placement.database};
            const auto found = places_.find(name);
            const Place place = found == places_.end() ? Place{nullptr, not_in_document} : found->second;
            const bool concerned = entry.index != not_in_document || place.index != not_in_document;
            const auto fits = check_tenant(entry, place, crowds[name]);
            if (!fits && concerned) return fits.error();
        }
        return {};
    }

  private:
    // Who is in one database already.
    struct Crowd {
        const Tenant* owner = nullptr;  // has the database to itself
        const Tenant* rows = nullptr;
        std::unordered_map<std::string_view, const Tenant*> roles;
    };

    void put(const Place& place) { places_[{place.database->cluster, place.database->name}] = place; }

    // At the tenant's entry, or, where only the database's entry is in the document, at that one.
    Error wrong(const Entry& entry, std::string_view key, const std::string& why, std::string hint, const Place* place = nullptr,
                std::string_view place_key = {}) const {
        const bool at_tenant = entry.index != not_in_document;
        std::string where;
        if (at_tenant) where = document_.origin.tenant(entry.index, key);
        if (!at_tenant && place != nullptr) where = document_.origin.database(place->index, place_key);
        return fail(ErrorKind::invalid, where + "tenant " + quoted(entry.tenant->name) + ": " + why, {}, std::move(hint));
    }

    Result<void> check_tenant(const Entry& entry, const Place& place, Crowd& crowd) const {
        const Tenant& tenant = *entry.tenant;
        const Isolation isolation = place.database == nullptr ? Isolation::app : place.database->isolation;
        const bool has_setting = place.database != nullptr && !place.database->tenant_setting.empty();
        const bool own_role = isolation != Isolation::app;
        const std::string where = "database " + quoted(tenant.placement.database) + " on cluster " + quoted(tenant.placement.cluster);
        if (own_role && tenant.role.empty()) {
            return wrong(entry, "role", where + " has isolation " + std::string(to_text(isolation)) + ", so the tenant needs a role of its own",
                         "give it role: <role>", &place, "isolation");
        }
        if (own_role) {
            const auto [owner, is_new] = crowd.roles.emplace(tenant.role, &tenant);
            if (!is_new) {
                return wrong(entry, "role",
                             "role " + quoted(tenant.role) + " is tenant " + quoted(owner->second->name) + "'s: with isolation " +
                                 std::string(to_text(isolation)) + " the role is what keeps them apart",
                             "give each tenant a role of its own", &place, "isolation");
            }
        }
        if (tenant.placement.kind == PlacementKind::rows && !has_setting && !own_role) {
            return wrong(entry, "placement",
                         where + " has no entry with a tenant_setting or with isolation role or login: nothing would say whose rows are whose",
                         "add the database's entry with tenant_setting: <run-time parameter>", &place, "tenant_setting");
        }
        if (const std::string clash = has_setting ? setting_of(tenant, place.database->tenant_setting) : std::string(); !clash.empty()) {
            return wrong(entry, "settings", "sets " + clash + ", which is the tenant_setting of " + where + " and pgporter's to set",
                         "remove it from settings; the tenant's key is its value", &place, "tenant_setting");
        }
        return check_crowd(entry, place, crowd, where);
    }

    // Whoever has a database to itself sees all that is in it.
    Result<void> check_crowd(const Entry& entry, const Place& place, Crowd& crowd, const std::string& where) const {
        const Tenant& tenant = *entry.tenant;
        if (tenant.placement.kind == PlacementKind::database) crowd.owner = &tenant;
        if (tenant.placement.kind == PlacementKind::rows) crowd.rows = &tenant;
        if (crowd.owner == nullptr || crowd.rows == nullptr) return {};
        const Tenant& other = crowd.owner == &tenant ? *crowd.rows : *crowd.owner;
        return wrong(entry, "placement", where + " can't be tenant " + quoted(crowd.owner->name) + "'s own and hold rows of tenant " +
                                             quoted(crowd.rows->name) + " as well (" + quoted(other.name) + " lives there)",
                     "give one of them another database", &place, "name");
    }

    static std::string setting_of(const Tenant& tenant, const std::string& setting) {
        const std::string wanted = folded_setting_name(setting);
        for (const auto& [name, value] : tenant.settings) {
            if (folded_setting_name(name) == wanted) return name;
        }
        return {};
    }

    const CatalogDocument& document_;
    std::vector<Entry> entries_;
    std::map<DatabaseName, Place> places_;
};

}  // namespace

Result<void> check_tenants_together(const SnapshotContent& catalog, const CatalogDocument& document) {
    const Together together(catalog, document);
    PP_TRY(together.check_names());
    return together.check_isolation();
}

}  // namespace pgporter
