#include "proxy/pool/server_budget.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace pgporter {

bool ServerBudget::take_or_starve(const BudgetKey& key, const BudgetCaps& caps, BudgetAsker who,
                                  std::function<void()> wake) {
    const std::lock_guard lock(mutex_);
    Cluster& cluster = clusters_[key.cluster];
    auto& in_database = cluster.by_database[key.database];
    if (cluster.used >= caps.cluster_max || (caps.database_max != 0 && in_database >= caps.database_max)) {
        cluster.starving.push_back({who, key.database, cluster.used >= caps.cluster_max, std::move(wake)});
        ++starving_total_;
        return false;
    }
    ++cluster.used;
    ++in_database;
    return true;
}

bool ServerBudget::take(const BudgetKey& key, const BudgetCaps& caps) {
    const std::lock_guard lock(mutex_);
    Cluster& cluster = clusters_[key.cluster];
    auto& in_database = cluster.by_database[key.database];
    if (cluster.used >= caps.cluster_max || (caps.database_max != 0 && in_database >= caps.database_max)) return false;
    ++cluster.used;
    ++in_database;
    return true;
}

void ServerBudget::give_back(const BudgetKey& key) {
    std::deque<Starving> woken;
    {
        const std::lock_guard lock(mutex_);
        Cluster& cluster = clusters_[key.cluster];
        PP_ASSERT(cluster.used > 0);
        --cluster.used;
        --cluster.by_database[key.database];
        // All of them look again, in their order: which of them the database caps let through is theirs to find out.
        woken.swap(cluster.starving);
        starving_total_ -= static_cast<std::uint32_t>(woken.size());
    }
    for (const Starving& pool : woken) pool.wake();
}

void ServerBudget::stop_starving(const std::string& cluster, const void* pool) {
    const std::lock_guard lock(mutex_);
    const auto gone = std::erase_if(clusters_[cluster].starving, [&](const Starving& one) { return one.who.pool == pool; });
    starving_total_ -= static_cast<std::uint32_t>(gone);
}

BudgetLevel ServerBudget::level(const BudgetKey& key) {
    const std::lock_guard lock(mutex_);
    Cluster& cluster = clusters_[key.cluster];
    return {cluster.used, cluster.by_database[key.database]};
}

bool ServerBudget::others_starve(const BudgetKey& key, const void* kin) const {
    if (starving_total_.load(std::memory_order_relaxed) == 0) return false;
    const std::lock_guard lock(mutex_);
    const auto at = clusters_.find(key.cluster);
    if (at == clusters_.end()) return false;
    return std::any_of(at->second.starving.begin(), at->second.starving.end(), [&](const Starving& pool) {
        return pool.who.kin != kin && (pool.for_cluster || pool.database == key.database);
    });
}

std::uint32_t ServerBudget::used(const std::string& cluster) const {
    const std::lock_guard lock(mutex_);
    const auto at = clusters_.find(cluster);
    return at == clusters_.end() ? 0 : at->second.used.load();
}

}  // namespace pgporter
