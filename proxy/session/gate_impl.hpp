// DataPathGate: the data path's side of catalog/gate.hpp. Called by the mover's threads; talks to the workers by posting, learns from
// them through HoldState. Owned by proxy/app; outlives the mover.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "catalog/gate.hpp"
#include "proxy/session/worker.hpp"

namespace pgporter {

class DataPathGate final : public TenantGate {
  public:
    explicit DataPathGate(DataPathShared& shared) : shared_(shared) {}

    Result<HoldId> hold(std::string_view tenant, std::chrono::milliseconds hold_max) override;
    DrainStatus wait_drained(HoldId hold, std::chrono::milliseconds wait) override;
    bool release(HoldId hold) override;
    std::uint32_t warm(std::string_view tenant, const Placement& target, std::chrono::milliseconds wait) override;

  private:
    std::shared_ptr<HoldState> find(HoldId hold) const;

    DataPathShared& shared_;
    mutable std::mutex mutex_;
    std::uint64_t last_hold_ = 0;
    std::map<std::string, std::shared_ptr<HoldState>> holds_;  // by tenant
};

}  // namespace pgporter
