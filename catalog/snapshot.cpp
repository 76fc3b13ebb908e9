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

bool goes_by_key(const Tenant& tenant, std::string_view key) {
    return has_own_key(tenant) && tenant.key == key;
}

bool goes_by_domain(const Tenant& tenant, std::string_view domain) {
    return std::find(tenant.domains.begin(), tenant.domains.end(), domain) != tenant.domains.end();
}

bool lives_in_schema(const Tenant& tenant, std::string_view schema) {
    return tenant.placement.schema == schema;
}

}  // namespace

SnapshotPtr Snapshot::build(SnapshotContent content) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->version_ = content.version;

    std::array<Bucket, bucket_count> buckets;
    std::vector<NameIndex::Entry> schemas;
    std::vector<NameIndex::Entry> keys;
    std::vector<NameIndex::Entry> domains;
    auto database_names = std::make_shared<std::unordered_map<std::string, std::size_t, TextHash, std::equal_to<>>>();
    for (auto& tenant : content.tenants) {
        auto entry = std::make_shared<const Tenant>(std::move(tenant));
        const std::size_t hash = TextHash{}(entry->name);
        buckets[name_bucket_of(hash)].push_back({hash, entry});
        ++snapshot->tenant_count_;
        const auto& placement = entry->placement;
        if (!placement.schema.empty()) schemas.push_back(NameIndex::entry(placement.schema, entry->name));
        if (has_own_key(*entry)) keys.push_back(NameIndex::entry(entry->key, entry->name));
        for (const auto& domain : entry->domains) domains.push_back(NameIndex::entry(domain, entry->name));
        ++(*database_names)[placement.database];
        if (const auto min = entry->limits.server_connections_min; min != 0) snapshot->guarantees_[placement.cluster] += min;
    }
    for (const auto& database : content.databases) {
        ++(*database_names)[database.name];
        if (database.server_connections_min != 0) snapshot->guarantees_[database.cluster] += database.server_connections_min;
    }
    for (std::size_t i = 0; i < bucket_count; ++i) {
        std::sort(buckets[i].begin(), buckets[i].end(), [](const Named& a, const Named& b) {
            return std::tie(a.hash, a.tenant->name) < std::tie(b.hash, b.tenant->name);
        });
        const auto twin = std::adjacent_find(buckets[i].begin(), buckets[i].end(), [](const Named& a, const Named& b) {
            return a.hash == b.hash && a.tenant->name == b.tenant->name;
        });
        PP_ASSERT(twin == buckets[i].end());  // names are unique in the catalog
        snapshot->buckets_[i] = std::make_shared<const Bucket>(buckets[i].begin(), buckets[i].end());  // no larger than it needs to be
    }
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
    const std::size_t hash = TextHash{}(entry->name);
    const Bucket& without = *base->buckets_[name_bucket_of(hash)];
    const auto place = before ? find_in(without, hash, entry->name) : first_of(without, hash);
    auto bucket = std::make_shared<Bucket>();
    bucket->reserve(without.size() + 1);
    bucket->assign(without.begin(), place);
    bucket->push_back({hash, entry});
    bucket->insert(bucket->end(), before ? std::next(place) : place, without.end());
    next->buckets_[name_bucket_of(hash)] = std::move(bucket);
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
        for (auto& [hash, tenant] : *bucket) {
            const auto found = find_in(mine, hash, tenant->name);
            if (found != mine.end() && *found->tenant == *tenant) {
                tenant = found->tenant;
                continue;
            }
            same = false;
            if (found != mine.end() && found->tenant->epoch > tenant->epoch) newer.push_back(found->tenant);
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

Snapshot::Bucket::const_iterator Snapshot::first_of(const Bucket& bucket, std::size_t hash) {
    return std::lower_bound(bucket.begin(), bucket.end(), hash, [](const Named& named, std::size_t wanted) { return named.hash < wanted; });
}

// The end, if it isn't there.
Snapshot::Bucket::const_iterator Snapshot::find_in(const Bucket& bucket, std::size_t hash, std::string_view name) {
    for (auto at = first_of(bucket, hash); at != bucket.end() && at->hash == hash; ++at) {
        if (at->tenant->name == name) return at;
    }
    return bucket.end();
}

TenantPtr Snapshot::find_tenant(std::string_view name) const {
    const std::size_t hash = TextHash{}(name);
    const Bucket& bucket = *buckets_[name_bucket_of(hash)];
    const auto found = find_in(bucket, hash, name);
    return found == bucket.end() ? nullptr : found->tenant;
}

template <class Visit>
void Snapshot::visit_tenants_of(const NameIndex& index, std::string_view text, GoesBy goes_by, Visit visit) const {
    const std::span<const NameIndex::Entry> entries = index.find(text);
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (i != 0 && entries[i] == entries[i - 1]) continue;  // all tenants with that hash have been visited
        const Bucket& bucket = *buckets_[name_bucket_of(entries[i].tenant)];
        for (auto at = first_of(bucket, entries[i].tenant); at != bucket.end() && at->hash == entries[i].tenant; ++at) {
            if (goes_by(*at->tenant, text)) visit(at->tenant);
        }
    }
}

TenantPtr Snapshot::only_tenant(const NameIndex& index, std::string_view text, GoesBy goes_by) const {
    const TenantPtr* only = nullptr;
    std::size_t count = 0;
    visit_tenants_of(index, text, goes_by, [&](const TenantPtr& tenant) {
        only = &tenant;
        ++count;
    });
    return count == 1 ? *only : nullptr;
}

TenantPtr Snapshot::find_tenant_by_key(std::string_view key) const {
    TenantPtr named = find_tenant(key);
    if (named && has_own_key(*named)) named = nullptr;  // it goes by another key
    if (!named) return only_tenant(keys_, key, goes_by_key);
    bool has_another = false;
    visit_tenants_of(keys_, key, goes_by_key, [&](const TenantPtr&) { has_another = true; });
    return has_another ? nullptr : named;
}

TenantPtr Snapshot::find_tenant_by_domain(std::string_view domain) const {
    return only_tenant(domains_, domain, goes_by_domain);
}

std::vector<TenantPtr> Snapshot::tenants_of_schema(std::string_view schema) const {
    std::vector<TenantPtr> tenants;
    if (schema.empty()) return tenants;
    visit_tenants_of(schemas_, schema, lives_in_schema, [&tenants](const TenantPtr& tenant) { tenants.push_back(tenant); });
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
        for (const auto& [hash, tenant] : *bucket) visit(tenant);
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
