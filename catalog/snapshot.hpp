// Snapshot: one immutable, indexed state of the catalog. Built by the catalog follower and by the mover's flip, swapped in
// by SnapshotPublisher, read without locks by every thread. A session pins one per decision and never keeps it across a hold.
//
// Tenants sit in 256 buckets by hash of their name; a new snapshot that differs in one tenant shares the other buckets.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.hpp"
#include "catalog/name_index.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {

class Snapshot;
using SnapshotPtr = std::shared_ptr<const Snapshot>;

struct SnapshotContent {
    CatalogVersion version;
    std::vector<Tenant> tenants;
    std::vector<Cluster> clusters;
    std::vector<Database> databases;
    std::vector<User> users;
};

template <class T>
using ByName = std::unordered_map<std::string, T, TextHash, std::equal_to<>>;

class Snapshot {
  public:
    static SnapshotPtr build(SnapshotContent content);
    // The same catalog with one tenant replaced (by name) or added. The version becomes the larger of the two.
    // Returns `base` itself when it already holds that tenant with a larger or equal epoch and nothing else differs.
    static SnapshotPtr with_tenant(const SnapshotPtr& base, Tenant tenant, CatalogVersion version);
    // `next`, but with the tenants of `current` that have a larger epoch there. What is equal in both is shared with `current`, so
    // that dropping `current` frees only what differs. The version becomes the larger of the two.
    static SnapshotPtr merged(const SnapshotPtr& current, const SnapshotPtr& next);

    [[nodiscard]] CatalogVersion version() const { return version_; }
    [[nodiscard]] TenantPtr find_tenant(std::string_view name) const;
    // Null: no tenant has this key (see tenant_key()), or this domain (in lower case); or two have, which the catalog
    // forbids but which a snapshot may show for the moment in which they exchange it.
    [[nodiscard]] TenantPtr find_tenant_by_key(std::string_view key) const;
    [[nodiscard]] TenantPtr find_tenant_by_domain(std::string_view domain) const;
    // Tenants that live in a schema of this name (several shared databases may have one each).
    [[nodiscard]] std::vector<TenantPtr> tenants_of_schema(std::string_view schema) const;
    [[nodiscard]] const Cluster* find_cluster(std::string_view name) const;
    [[nodiscard]] const Database* find_database(std::string_view cluster, std::string_view name) const;
    [[nodiscard]] const User* find_user(std::string_view name) const;
    // The sum of server_connections_min of its databases and of the tenants that live there.
    [[nodiscard]] std::uint32_t guaranteed_connections(std::string_view cluster) const;
    // True when some tenant lives in, or some entry names, a database of this name on any cluster.
    [[nodiscard]] bool knows_database(std::string_view name) const;

    [[nodiscard]] std::size_t tenant_count() const { return tenant_count_; }
    void for_each_tenant(const std::function<void(const TenantPtr&)>& visit) const;  // in no particular order
    [[nodiscard]] const std::vector<Cluster>& clusters() const { return *clusters_; }
    [[nodiscard]] const std::vector<Database>& databases() const { return *databases_; }
    [[nodiscard]] const ByName<User>& users() const { return *users_; }

  private:
    static constexpr std::size_t bucket_count = name_bucket_count;
    // By the hash of its name: a third of what a table of names takes, and nearly always the only one with it.
    struct Named {
        std::size_t hash;
        TenantPtr tenant;
    };
    using Bucket = std::vector<Named>;  // in the order of the hashes
    using GoesBy = bool (*)(const Tenant& tenant, std::string_view text);

    [[nodiscard]] static Bucket::const_iterator first_of(const Bucket& bucket, std::size_t hash);
    [[nodiscard]] static Bucket::const_iterator find_in(const Bucket& bucket, std::size_t hash, std::string_view name);
    // All tenants that the index has for this text and that do go by it.
    template <class Visit>
    void visit_tenants_of(const NameIndex& index, std::string_view text, GoesBy goes_by, Visit visit) const;
    [[nodiscard]] TenantPtr only_tenant(const NameIndex& index, std::string_view text, GoesBy goes_by) const;
    void index_change(const Tenant* before, const Tenant& after);  // before null: it is new

    CatalogVersion version_;
    std::size_t tenant_count_ = 0;
    std::array<std::shared_ptr<const Bucket>, bucket_count> buckets_;
    NameIndex schemas_;
    NameIndex keys_;     // of tenants whose key isn't their name
    NameIndex domains_;
    std::map<std::string, std::uint32_t, std::less<>> guarantees_;  // by cluster; few tenants and databases have one
    std::shared_ptr<const std::vector<Cluster>> clusters_;
    std::shared_ptr<const std::vector<Database>> databases_;
    std::shared_ptr<const ByName<User>> users_;
    std::shared_ptr<const std::unordered_map<std::string, std::size_t, TextHash, std::equal_to<>>> database_names_;
};

// Hands the newest snapshot to whoever subscribed. publish() never replaces a newer state by an older one, per tenant: a
// tenant whose epoch is larger in the current snapshot keeps its current entry; and a snapshot that is older than the last one
// published whole is dropped. Any thread; subscribers are called on the publishing
// thread, one publication at a time, and must only post the value on.
class SnapshotPublisher {
  public:
    using Subscriber = std::function<void(const SnapshotPtr&)>;

    [[nodiscard]] SnapshotPtr current() const;  // null until the first publication
    void publish(SnapshotPtr snapshot);
    void publish_tenant(const Tenant& tenant, CatalogVersion version);  // the flip's quick way
    void subscribe(Subscriber subscriber);  // called at once with the current snapshot if there is one

  private:
    void replace(SnapshotPtr snapshot);  // with publish_mutex_ held

    mutable std::mutex mutex_;
    std::mutex publish_mutex_;
    SnapshotPtr current_;
    CatalogVersion whole_version_;  // of the last snapshot that publish() took; publish_tenant() knows nothing of other tenants
    std::vector<Subscriber> subscribers_;
};

}  // namespace pgporter
