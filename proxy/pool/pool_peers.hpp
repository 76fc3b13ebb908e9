// PoolPeers: what the pools of one key, one on each thread, know of each other: who has idle server connections, who wants one. Each pool writes
// its own seat only, but for orders that another one takes. No lock. PoolBook: the peers by key, and the threads' PoolSets; owned by
// DataPathShared.
//
// Who wants says so and looks for idle ones then; who has an idle one says so and looks for orders then. In this order, in one order for all
// threads, one of them sees the other.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "proxy/pool/context.hpp"
#include "proxy/pool/pool_key.hpp"

namespace pgporter {

class Pool;
class PoolSet;

class PoolPeers {
  public:
    explicit PoolPeers(std::size_t threads) : seats_(threads) {}

    // On the seat's thread.
    void sit_down(std::size_t thread, Pool* pool) { seats_[thread].pool = pool; }  // null: it is gone
    [[nodiscard]] Pool* pool(std::size_t thread) const { return seats_[thread].pool; }
    void set_idle(std::size_t thread, std::size_t count) { seats_[thread].idle.store(static_cast<std::uint32_t>(count)); }
    void set_open(std::size_t thread, std::size_t count) { seats_[thread].open.store(static_cast<std::uint32_t>(count), std::memory_order_relaxed); }
    void set_wanted(std::size_t thread, std::size_t count);

    // On any thread.
    [[nodiscard]] bool is_wanted() const { return wanting_.load() != 0; }
    [[nodiscard]] bool has_open() const;
    [[nodiscard]] std::optional<std::size_t> richest_but(std::size_t thread) const;  // of those with idle ones
    // What a fresh connection reports, for a thread that hasn't opened one; null: nobody has, or it is in doubt. A lock: for logins.
    [[nodiscard]] std::shared_ptr<const Settings> fresh_parameters() const;
    void set_fresh_parameters(std::shared_ptr<const Settings> reported);
    // Somebody's who wants one; he wants one less then. In turn.
    [[nodiscard]] std::optional<std::size_t> take_order(std::size_t except);

  private:
    struct alignas(64) Seat {
        std::atomic<std::uint32_t> idle{0};
        std::atomic<std::uint32_t> open{0};
        std::atomic<std::uint32_t> wanted{0};
        bool is_wanting = false;  // counted in wanting_
        Pool* pool = nullptr;
    };
    std::vector<Seat> seats_;
    alignas(64) std::atomic<std::uint32_t> wanting_{0};  // seats
    std::atomic<std::size_t> next_{0};
    mutable std::mutex mutex_;
    std::shared_ptr<const Settings> fresh_parameters_;
};

class PoolBook {
  public:
    explicit PoolBook(std::size_t threads) : sets_(threads) {}
    // Takes a lock: once for each pool.
    [[nodiscard]] std::shared_ptr<PoolPeers> peers(const PoolKey& key);
    void add(std::size_t thread, PoolSet& set) { sets_[thread] = &set; }  // before the threads run
    [[nodiscard]] PoolSet& set(std::size_t thread) const { return *sets_[thread]; }
    [[nodiscard]] std::size_t threads() const { return sets_.size(); }
    // One thread after the other, beginning behind `thread`, until one has closed an idle connection. `database` empty: any of the cluster.
    void close_one_idle_of_others(std::size_t thread, const std::string& cluster, const std::string& database) const;

  private:
    void close_one_idle(std::size_t thread, std::size_t left, std::string cluster, std::string database) const;

    std::vector<PoolSet*> sets_;
    std::mutex mutex_;
    std::map<PoolKey, std::weak_ptr<PoolPeers>> peers_;
    std::size_t sweep_at_ = 64;
};

}  // namespace pgporter
