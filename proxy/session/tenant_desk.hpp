// TenantDesk: what one thread knows about one tenant at run time: is its gate held, who works for it, who waits. TenantUsage is the
// part that all threads share. A desk lives as long as its thread once made (a tenant that spoke here); same thread only.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/metrics.hpp"
#include "catalog/gate.hpp"
#include "proxy/net/deadline_wheel.hpp"
#include "proxy/pool/pool.hpp"
#include "proxy/pool/rate_limit.hpp"

namespace pgporter {

struct TenantUsage {
    std::atomic<std::uint32_t> sessions{0};
    std::atomic<std::int64_t> buffered_bytes{0};  // see MemoryBudget
    std::atomic<std::uint32_t> gate_waiters{0};
    RateLimit transactions;
    RateLimit bytes;
};

struct TenantCounters {
    metrics::Counter& transactions;
    metrics::Counter& received_bytes;
    metrics::Counter& sent_bytes;
    metrics::Gauge& sessions;
};

// Usage and metrics by tenant for all threads. Thread-safe; asked once per session.
class TenantLedger {
  public:
    TenantLedger(metrics::Registry& registry, std::uint32_t labels_max) : registry_(registry), labels_max_(labels_max) {}
    std::shared_ptr<TenantUsage> usage(const std::string& tenant);
    // Tenants beyond the first `labels_max` share the label "_other": the number of series stays bounded.
    TenantCounters counters(const std::string& tenant);

  private:
    metrics::Registry& registry_;
    std::uint32_t labels_max_;
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<TenantUsage>> usage_;
    std::map<std::string, bool> labelled_;
};

// A hold as all threads and the mover see it.
class HoldState {
  public:
    HoldState(HoldId id, std::string tenant, std::size_t threads, std::chrono::milliseconds hold_max);
    void update(std::size_t thread, std::uint32_t active, std::uint32_t pinned, std::uint32_t waiting);
    void expire();
    DrainStatus wait(std::chrono::milliseconds at_most);
    [[nodiscard]] bool is_expired() const;

    const HoldId id;
    const std::string tenant;
    const std::chrono::milliseconds hold_max;

  private:
    struct Counts {
        bool acknowledged = false;
        std::uint32_t active = 0;
        std::uint32_t pinned = 0;
        std::uint32_t waiting = 0;
    };
    [[nodiscard]] DrainStatus status_locked() const;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Counts> threads_;
    bool expired_ = false;
};

class TenantDesk {
  public:
    TenantDesk(std::size_t thread_index, DeadlineWheel& wheel, std::string name, TenantLedger& ledger);

    // The gate.
    void hold(std::shared_ptr<HoldState> state);
    void open();  // also when the hold expires by itself
    [[nodiscard]] bool is_held() const { return hold_ != nullptr; }
    [[nodiscard]] HoldId hold_id() const { return hold_ ? hold_->id : HoldId{}; }

    // Leases of this thread. begin_lease() is only called when the gate is open.
    void begin_lease();
    void end_lease();
    void pin();
    void unpin();

    // Waiting at the gate.
    void join_gate(PoolWaiter& waiter);
    void leave(PoolWaiter& waiter);
    [[nodiscard]] std::size_t gate_waiters() const { return usage_->gate_waiters.load(std::memory_order_relaxed); }  // of all threads

    // The tenant's part of a cluster's places; looked up once, until it lives on another one.
    [[nodiscard]] const std::shared_ptr<PlaceShare>& share(const std::shared_ptr<ClusterPlaces>& cluster);

    [[nodiscard]] TenantUsage& usage() { return *usage_; }
    [[nodiscard]] const TenantCounters& counters() const { return counters_; }
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] TenantMark mark() const { return mark_; }
    // When the tenant's database was last asked for a fence, while the catalog couldn't be.
    std::chrono::steady_clock::time_point fence_asked_at{};

  private:
    void tell();

    std::size_t thread_index_;
    std::string name_;
    TenantMark mark_ = tenant_mark(name_);
    std::shared_ptr<TenantUsage> usage_;
    TenantCounters counters_;
    std::shared_ptr<HoldState> hold_;
    Deadline hold_deadline_;
    std::uint32_t active_ = 0;
    std::uint32_t pinned_ = 0;
    std::deque<PoolWaiter*> gate_waiters_;
    std::shared_ptr<ClusterPlaces> cluster_;
    std::shared_ptr<PlaceShare> share_;
};

}  // namespace pgporter
