// InstanceHolds: the holds of this instance that others asked for, and those that it places itself when it meets a fence. Each has a thread
// of its own that acknowledges, waits, and ends it. Owned by Instances. It must not open a gate before it knows where the tenant lives: when
// nobody releases a hold in time, the catalog is read first.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/metrics.hpp"
#include "catalog/config.hpp"
#include "catalog/gate.hpp"
#include "catalog/instance_message.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

class InstanceHolds {
  public:
    struct Ports {
        const Config& config;
        TenantGate& gate;  // of this instance's own data path
        SnapshotPublisher& publisher;
        std::function<Result<void>()> read_catalog;           // blocks until what the catalog says now is published
        std::function<void(const InstanceMessage&)> tell;     // never blocks
        metrics::Registry& registry;
    };
    explicit InstanceHolds(Ports ports);
    ~InstanceHolds() { stop(); }

    void hold(const InstanceMessage& asked);      // what is told back: held, drained
    void release(const InstanceMessage& message);  // publishes the route first, if it is newer than ours; or reads the catalog, if that says more
    void warm(const InstanceMessage& message);
    // A server refused a write because the tenant moves, or has moved: it waits until the catalog says which. Any thread, doesn't block.
    void on_fence_met(const std::string& tenant);
    // The same for a pause that was going on when this instance joined. Nothing, where the tenant is held already.
    void wait_for_move(const std::string& tenant);
    void make_way(const std::string& tenant);  // for a move of this instance's own
    // What the catalog says: these tenants are inside the pause of a move. Other holds end: whoever placed them is gone, or its word was lost.
    void keep_only(const std::set<std::string>& in_pause);
    void stop();

  private:
    struct Held {
        InstanceMessage asked;
        HoldId local;
        Epoch epoch;  // when the hold began
        bool by_fence = false;
        bool over = false;
        bool ended = false;  // its thread is on its last line
        std::thread thread;
    };
    using HeldPtr = std::shared_ptr<Held>;
    void place(InstanceMessage asked, bool by_fence);  // with mutex_ held
    void run(const HeldPtr& held);
    void acknowledge(const HeldPtr& held, std::chrono::steady_clock::time_point until);
    void end(const HeldPtr& held);
    void read_and_end(const std::string& tenant);
    void end_with_truth(const HeldPtr& held);  // with mutex_ held
    void reap();                                // with mutex_ held
    [[nodiscard]] bool is_over(const HeldPtr& held);
    void learn_truth(const HeldPtr& held);
    [[nodiscard]] Epoch epoch_of(const std::string& tenant) const;
    void run_aside(std::function<void()> work);  // with mutex_ held

    Ports ports_;
    metrics::Counter& placed_;
    metrics::Counter& timed_out_;
    metrics::Counter& fences_met_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::string, HeldPtr> held_;  // by tenant
    std::vector<HeldPtr> old_;
    bool stopping_ = false;
};

}  // namespace pgporter
