// ServerBudget: how many server connections exist, for all threads: per cluster and per database, under hard caps. The one
// place on the way of a transaction with a lock, and only when a connection is opened or closed. Thread-safe.
//
// Who wants a connection and can't have one registers as starving; a place that becomes free wakes all that starve there, in their order.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace pgporter {

struct BudgetKey {
    std::string cluster;
    std::string database;
};
struct BudgetCaps {
    std::uint32_t cluster_max = 0;   // never 0
    std::uint32_t database_max = 0;  // 0: no cap of its own
};

// How full it is, without a lock. Good as long as the budget.
class BudgetLevel {
  public:
    BudgetLevel(const std::atomic<std::uint32_t>& cluster, const std::atomic<std::uint32_t>& database) : cluster_(&cluster), database_(&database) {}
    [[nodiscard]] bool is_cluster_full(const BudgetCaps& caps) const { return cluster_->load(std::memory_order_relaxed) >= caps.cluster_max; }
    [[nodiscard]] bool is_full(const BudgetCaps& caps) const {
        return is_cluster_full(caps) || (caps.database_max != 0 && database_->load(std::memory_order_relaxed) >= caps.database_max);
    }

  private:
    const std::atomic<std::uint32_t>* cluster_;
    const std::atomic<std::uint32_t>* database_;
};

// Who asks. Pools of the same kin hand their connections to each other: they needn't close any.
struct BudgetAsker {
    const void* pool = nullptr;
    const void* kin = nullptr;
};

class ServerBudget {
  public:
    // Takes one place, or registers `wake` (called once, on any thread, when trying again makes sense) and says false.
    bool take_or_starve(const BudgetKey& key, const BudgetCaps& caps, BudgetAsker who, std::function<void()> wake);
    // Who had to starve has what it needs. It may be woken yet.
    void stop_starving(const std::string& cluster, const void* pool);
    // Takes one place, or says false and remembers nobody.
    bool take(const BudgetKey& key, const BudgetCaps& caps);
    void give_back(const BudgetKey& key);
    // Another pool, on some thread, waits for a place that a connection of `key` takes: better closed than kept idle.
    [[nodiscard]] bool others_starve(const BudgetKey& key, const void* kin) const;
    [[nodiscard]] BudgetLevel level(const BudgetKey& key);
    [[nodiscard]] std::uint32_t used(const std::string& cluster) const;

  private:
    struct Starving {
        BudgetAsker who;
        std::string database;
        bool for_cluster;  // any place of the cluster helps, else only one of this database
        std::function<void()> wake;
    };
    struct Cluster {
        std::atomic<std::uint32_t> used{0};  // changed with the lock
        std::map<std::string, std::atomic<std::uint32_t>> by_database;
        std::deque<Starving> starving;
    };
    mutable std::mutex mutex_;
    std::atomic<std::uint32_t> starving_total_{0};  // spares the lock while nobody starves
    std::map<std::string, Cluster> clusters_;  // none is ever erased, nor is a database
};

}  // namespace pgporter
