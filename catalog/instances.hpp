// Instances: the live instances of pgporter that share a catalog, as one of them sees them. A member is who holds an advisory lock in the
// catalog under its number; what they tell each other goes by NOTIFY. It is the mover's gate: a hold is placed here and by every member, and
// drained is what all have drained. One thread with a connection of its own. Owned by proxy/app; public functions: any control-plane thread.
// It must not be what safety rests on: a member that hears nothing is refused by the fence in the database.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/metrics.hpp"
#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/gate.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

class Instances final : public TenantGate {
  public:
    struct Ports {
        const Config& config;
        std::uint32_t member;  // this process's number: CatalogStore::instance()
        TenantGate& gate;  // of this instance's own data path
        SnapshotPublisher& publisher;
        std::function<Result<void>()> read_catalog;  // blocks until what the catalog says now is published
        metrics::Registry& registry;
    };
    explicit Instances(Ports ports);
    ~Instances() override;

    // `take_over` is called when a move has been without an owner for some seconds; on a thread of ours, it may block.
    void start(std::function<void()> take_over);
    void stop();

    Result<HoldId> hold(std::string_view tenant, std::chrono::milliseconds hold_max) override;
    DrainStatus wait_drained(HoldId hold, std::chrono::milliseconds wait) override;
    bool release(HoldId hold) override;
    std::uint32_t warm(std::string_view tenant, const Placement& target, std::chrono::milliseconds wait) override;

    // The data path: a server refused a write of this tenant because it moves. Any thread, doesn't block.
    void on_fence_met(const std::string& tenant);
    // False: the others, and with them a flip, may have gone unheard for longer than a second or two. Any thread, no lock.
    [[nodiscard]] bool hears_all() const;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace pgporter
