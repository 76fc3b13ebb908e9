#include "catalog/snapshot.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "base/assert.hpp"

namespace pgporter {
namespace {

bool is_before(const Database& left, std::string_view cluster, std::string_view name) {
    return std::pair<std::string_view, std::string_view>(left.cluster, left.name) < std::pair(cluster, name);
}

// A key that is the name needs no entry: the tenant is found by its name.
bool has_own_key(const Tenant& tenant) {
    return !tenant.key.empty() && tenant.key != tenant.name;
}

}  // namespace

SnapshotPtr Snapshot::build(SnapshotContent content) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->version_ = content.version;

    std::array<std::shared_ptr<Bucket>, bucket_count> buckets;
    NameIndex::Pairs schemas;
    NameIndex::Pairs keys;
    NameIndex::Pairs domains;
    auto database_names = std::make_shared<std::unordered_map<std::string, std::size_t, TextHash, std::equal_to<>>>();
    for (auto& bucket : buckets) {
        bucket = std::make_shared<Bucket>();
        bucket->reserve(content.tenants.size() / bucket_count + 1);
    }
    for (auto& tenant : content.tenants) {
        auto entry = std::make_shared<const Tenant>(std::move(tenant));
        const auto [place, added] = buckets[name_bucket_of(entry->name)]->try_emplace(entry->name, entry);
        PP_ASSERT(added);  // names are unique in the catalog
        ++snapshot->tenant_count_;
        const auto& placement = entry->placement;
        if (!placement.schema.empty()) schemas.emplace_back(placement.schema, entry->name);
        if (has_own_key(*entry)) keys.emplace_back(entry->key, entry->name);
        for (const auto& domain : entry->domains) domains.emplace_back(domain, entry->name);
        ++(*database_names)[placement.database];
        if (const auto min = entry->limits.server_connections_min; min != 0) snapshot->guarantees_[placement.cluster] += min;
    }
    for (const auto& database : content.databases) {
        ++(*database_names)[database.name];
        if (database.server_connections_min != 0) snapshot->guarantees_[database.cluster] += database.server_connections_min;
    }
    for (std::size_t i = 0; i < bucket_count; ++i) snapshot->buckets_[i] = std::move(buckets[i]);
    snapshot->schemas_ = NameIndex(schemas);
    snapshot->keys_ = NameIndex(keys);
    snapshot->domains_ = NameIndex(domains);

    std::sort(content.clusters.begin(), content.clusters.end(),
              [](const Cluster& a, const Cluster& b) { return a.name < b.name; });
    std::sort(content.databases.begin(), content.databases.end(),
              [](const Database& a, const Database& b) { return is_before(a, b.cluster, b.name); });
    auto users = std::make_shared<ByName<User>>();
    for (auto& user : content.users) {
        std::sort(user.tenants.begin(), user.tenants.end());
        const std::string name = user.name;
        users->insert_or_assign(name, std::move(user));
    }
    snapshot->clusters_ = std::make_shared<const std::vector<Cluster>>(std::move(content.clusters));
    snapshot->databases_ = std::make_shared<const std::vector<Database>>(std::move(content.databases));
    snapshot->users_ = std::move(users);
    snapshot->database_names_ = std::move(database_names);
    return snapshot;
}

SnapshotPtr Snapshot::with_tenant(const SnapshotPtr& base, Tenant tenant, CatalogVersion version) {
    const TenantPtr before = base->find_tenant(tenant.name);
    if (before && before->epoch > tenant.epoch) return base;
    if (before && *before == tenant && version <= base->version()) return base;

    auto next = std::make_shared<Snapshot>(*base);
    next->version_ = std::max(base->version(), version);
    const auto entry = std::make_shared<const Tenant>(std::move(tenant));
    auto bucket = std::make_shared<Bucket>(*base->buckets_[name_bucket_of(entry->name)]);
    bucket->insert_or_assign(entry->name, entry);
    next->buckets_[name_bucket_of(entry->name)] = std::move(bucket);
    if (!before) ++next->tenant_count_;
    next->index_change(before.get(), *entry);
    return next;
}

void Snapshot::index_change(const Tenant* before, const Tenant& after) {
    const auto change = [&after](NameIndex& index, const std::string& from, const std::string& to) {
        if (from == to) return;
        if (!from.empty()) index.remove(from, after.name);
        if (!to.empty()) index.add(to, after.name);
    };
    const auto own_key = [](const Tenant& tenant) { return has_own_key(tenant) ? tenant.key : std::string(); };
    change(keys_, before != nullptr ? own_key(*before) : std::string(), own_key(after));
    if (before == nullptr || before->domains != after.domains) {
        if (before != nullptr) {
            for (const auto& domain : before->domains) domains_.remove(domain, after.name);
        }
        for (const auto& domain : after.domains) domains_.add(domain, after.name);
    }
    if (before != nullptr && before->limits.server_connections_min != 0) {
        guarantees_[before->placement.cluster] -= before->limits.server_connections_min;
    }
    if (after.limits.server_connections_min != 0) guarantees_[after.placement.cluster] += after.limits.server_connections_min;
    if (before != nullptr && before->placement == after.placement) return;
    change(schemas_, before != nullptr ? before->placement.schema : std::string(), after.placement.schema);
    auto names = std::make_shared<std::unordered_map<std::string, std::size_t, TextHash, std::equal_to<>>>(*database_names_);
    if (before != nullptr) {
        const auto counted = names->find(before->placement.database);
        PP_ASSERT(counted != names->end());
        if (--counted->second == 0) names->erase(counted);
    }
    ++(*names)[after.placement.database];
    database_names_ = std::move(names);
}

SnapshotPtr Snapshot::merged(const SnapshotPtr& current, const SnapshotPtr& next) {
    auto result = std::make_shared<Snapshot>(*next);
    result->version_ = std::max(current->version(), next->version());
    std::vector<TenantPtr> newer;
    bool all_shared = true;
    for (std::size_t i = 0; i < bucket_count; ++i) {
        const auto& mine = *current->buckets_[i];
        if (current->buckets_[i] == next->buckets_[i]) continue;
        auto bucket = std::make_shared<Bucket>(*next->buckets_[i]);
        bool same = bucket->size() == mine.size();
        for (auto& [name, tenant] : *bucket) {
            const auto found = mine.find(name);
            if (found != mine.end() && *found->second == *tenant) {
                tenant = found->second;
                continue;
            }
            same = false;
            if (found != mine.end() && found->second->epoch > tenant->epoch) newer.push_back(found->second);
        }
        all_shared = all_shared && same;
        if (same) {
            result->buckets_[i] = current->buckets_[i];
        } else {
            result->buckets_[i] = std::move(bucket);
        }
    }
    result->schemas_.share_with(current->schemas_);
    result->keys_.share_with(current->keys_);
    result->domains_.share_with(current->domains_);
    const auto equal = [](const auto& a, const auto& b) { return a == b || *a == *b; };
    if (equal(current->clusters_, next->clusters_)) result->clusters_ = current->clusters_;
    if (equal(current->users_, next->users_)) result->users_ = current->users_;
    if (equal(current->databases_, next->databases_)) {
        result->databases_ = current->databases_;
        if (all_shared) result->database_names_ = current->database_names_;
    }
    SnapshotPtr snapshot = std::move(result);
    for (const auto& tenant : newer) snapshot = with_tenant(snapshot, *tenant, snapshot->version());
    return snapshot;
}

TenantPtr Snapshot::find_tenant(std::string_view name) const {
    const auto& bucket = *buckets_[name_bucket_of(name)];
    const auto found = bucket.find(name);
    return found == bucket.end() ? nullptr : found->second;
}

TenantPtr Snapshot::only_tenant(const NameIndex& index, std::string_view text) const {
    const auto [from, to] = index.find(text);
    if (from == to || std::next(from) != to) return nullptr;
    TenantPtr tenant = find_tenant(from->second);
    PP_ASSERT(tenant != nullptr);
    return tenant;
}

TenantPtr Snapshot::find_tenant_by_key(std::string_view key) const {
    TenantPtr named = find_tenant(key);
    if (named && has_own_key(*named)) named = nullptr;  // it goes by another key
    const auto [from, to] = keys_.find(key);
    if (from == to) return named;
    return named ? nullptr : only_tenant(keys_, key);
}

TenantPtr Snapshot::find_tenant_by_domain(std::string_view domain) const {
    return only_tenant(domains_, domain);
}

std::vector<TenantPtr> Snapshot::tenants_of_schema(std::string_view schema) const {
    std::vector<TenantPtr> tenants;
    if (schema.empty()) return tenants;
    const auto [from, to] = schemas_.find(schema);
    for (auto it = from; it != to; ++it) {
        TenantPtr tenant = find_tenant(it->second);
        PP_ASSERT(tenant != nullptr);
        tenants.push_back(std::move(tenant));
    }
    return tenants;
}

std::uint32_t Snapshot::guaranteed_connections(std::string_view cluster) const {
    const auto at = guarantees_.find(cluster);
    return at == guarantees_.end() ? 0 : at->second;
}

const Cluster* Snapshot::find_cluster(std::string_view name) const {
    const auto found = std::lower_bound(clusters_->begin(), clusters_->end(), name,
                                        [](const Cluster& cluster, std::string_view n) { return cluster.name < n; });
    return found != clusters_->end() && found->name == name ? &*found : nullptr;
}

const Database* Snapshot::find_database(std::string_view cluster, std::string_view name) const {
    const auto found =
        std::lower_bound(databases_->begin(), databases_->end(), name,
                         [&](const Database& database, std::string_view n) { return is_before(database, cluster, n); });
    const bool fits = found != databases_->end() && found->cluster == cluster && found->name == name;
    return fits ? &*found : nullptr;
}

const User* Snapshot::find_user(std::string_view name) const {
    const auto found = users_->find(name);
    return found == users_->end() ? nullptr : &found->second;
}

bool Snapshot::knows_database(std::string_view name) const {
    return database_names_->find(name) != database_names_->end();
}

void Snapshot::for_each_tenant(const std::function<void(const TenantPtr&)>& visit) const {
    for (const auto& bucket : buckets_) {
        for (const auto& [name, tenant] : *bucket) visit(tenant);
    }
}

SnapshotPtr SnapshotPublisher::current() const {
    const std::lock_guard lock(mutex_);
    return current_;
}

void SnapshotPublisher::publish(SnapshotPtr snapshot) {
    PP_ASSERT(snapshot != nullptr);
    const std::lock_guard publication(publish_mutex_);
    const SnapshotPtr before = current();
    if (before && snapshot->version() < whole_version_) return;
    whole_version_ = snapshot->version();
    replace(before ? Snapshot::merged(before, snapshot) : std::move(snapshot));
}

void SnapshotPublisher::publish_tenant(const Tenant& tenant, CatalogVersion version) {
    const std::lock_guard publication(publish_mutex_);
    const SnapshotPtr before = current();
    if (!before) return;  // one tenant is no catalog: the first whole snapshot will have it
    SnapshotPtr next = Snapshot::with_tenant(before, tenant, version);
    if (next != before) replace(std::move(next));
}

void SnapshotPublisher::subscribe(Subscriber subscriber) {
    const std::lock_guard publication(publish_mutex_);
    SnapshotPtr snapshot;
    {
        const std::lock_guard lock(mutex_);
        subscribers_.push_back(subscriber);
        snapshot = current_;
    }
    if (snapshot) subscriber(snapshot);
}

// Subscribers are only added, and only with publish_mutex_ held, so the list can be walked without mutex_.
void SnapshotPublisher::replace(SnapshotPtr snapshot) {
    {
        const std::lock_guard lock(mutex_);
        current_.swap(snapshot);
    }
    for (const auto& subscriber : subscribers_) subscriber(current_);
}

}  // namespace pgporter
