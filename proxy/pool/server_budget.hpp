// ServerBudget: how many server connections exist, for all threads: per cluster and per database, under hard caps. The one
// place on the way of a transaction with a lock, and only when a connection is opened or closed. Thread-safe.
//
// Who wants a connection and can't have one registers as starving; each place that becomes free wakes the oldest of the starving.
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

class ServerBudget {
  public:
    // Takes one place, or registers `wake` (called once, on any thread, when trying again makes sense) and says false.
    // `who` stands for the asking pool.
    bool take_or_starve(const BudgetKey& key, const BudgetCaps& caps, const void* who, std::function<void()> wake);
    // Takes one place, or says false and remembers nobody.
    bool take(const BudgetKey& key, const BudgetCaps& caps);
    void give_back(const BudgetKey& key);
    // Another pool, on some thread, waits for a place that a connection of `key` takes: better closed than kept idle.
    [[nodiscard]] bool others_starve(const BudgetKey& key, const void* who) const;
    [[nodiscard]] std::uint32_t used(const std::string& cluster) const;

  private:
    struct Starving {
        const void* who;
        std::string database;
        bool for_cluster;  // any place of the cluster helps, else only one of this database
        std::function<void()> wake;
    };
    struct Cluster {
        std::uint32_t used = 0;
        std::map<std::string, std::uint32_t> by_database;
        std::deque<Starving> starving;
    };
    mutable std::mutex mutex_;
    std::atomic<std::uint32_t> starving_total_{0};  // spares the lock while nobody starves
    std::map<std::string, Cluster> clusters_;
};

}  // namespace pgporter
