// TenantGate: the port through which the mover asks the data path to hold one tenant's new transactions. The data path
// implements it (proxy/session); the mover only knows this header. Called from control-plane threads, never from a data-path thread.
//
// Protocol: hold() -> wait_drained() (as often as wished) -> [flip, publish the snapshot] -> release(). A hold that is not
// released by its owner ends by itself after hold_max: clients never wait for a dead mover. Where several instances share a catalog, the gate
// that the mover has is theirs together (catalog/instances.hpp).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {

using HoldId = StrongId<struct HoldIdTag>;

struct DrainStatus {
    bool drained = false;           // no server connection works for this tenant any more
    bool expired = false;           // hold_max passed: the gate is open again
    std::uint32_t transactions = 0;  // still running
    std::uint32_t pinned = 0;        // of these, sessions that keep their server connection (docs/glossary.md: pin)
    std::uint32_t waiting = 0;       // transactions that the hold keeps waiting
    std::uint32_t silent = 0;        // other instances that haven't acknowledged the hold
};

class TenantGate {
  public:
    virtual ~TenantGate() = default;
    // From now on no transaction of this tenant starts. Returns at once. conflict: this tenant is held already.
    virtual Result<HoldId> hold(std::string_view tenant, std::chrono::milliseconds hold_max) = 0;
    // Blocks until drained, expired, or `wait` has passed.
    virtual DrainStatus wait_drained(HoldId hold, std::chrono::milliseconds wait) = 0;
    // Opens the gate; waiting transactions go where the then current snapshot says. False: the hold had expired before.
    virtual bool release(HoldId hold) = 0;
    // Opens server connections to where the tenant will live, for the users that now speak for it, so that the first transactions
    // after the flip need not wait for logins. Best effort, bounded by the caps; blocks for at most `wait`. Returns how many are open.
    virtual std::uint32_t warm(std::string_view tenant, const Placement& target, std::chrono::milliseconds wait) = 0;
};

}  // namespace pgporter
