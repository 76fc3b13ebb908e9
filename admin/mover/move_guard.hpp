// MoveGuard: ends a move before it harms a server: the log that its slot keeps on the source, the size of what the target gets, how long
// its snapshot is held, and a slot that is lost. Looks once a second, also while programs and servers are at work for hours. Owned by the
// move, a thread and two connections of its own; the other functions are for the move's thread. What it finds cancels the move, and is the
// move's error. It must not: change anything on a server.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "admin/mover/copy_tables.hpp"
#include "admin/mover/lag_trend.hpp"
#include "admin/mover/move_servers.hpp"
#include "base/metrics.hpp"

namespace pgporter {

// What one look saw.
struct GuardReport {
    std::uint64_t source_wal_bytes = 0;   // that the slot keeps
    std::uint64_t lag_bytes = 0;          // between the source's end and what the target has durably
    bool falling_behind = false;          // in `catchup`: the application writes faster than its changes are applied
    std::uint64_t standby_lag_bytes = 0;  // of the slowest standby of either server, as far as the mover's role may see it
};

class MoveGuard {
  public:
    using Reporter = std::function<void(const GuardReport&)>;  // on the guard's thread
    // Once the slot is made. `held`: by the copy. `interrupt`: cancelled when a bound is passed.
    MoveGuard(const MoveServers& servers, Interrupt& interrupt, const HeldSnapshots& held, metrics::Registry& registry, Reporter reporter);
    ~MoveGuard();

    void catching_up(bool is_so) { catching_up_.store(is_so); }
    [[nodiscard]] std::string finding() const;  // why the move must end; empty: it needn't

  private:
    void run();
    [[nodiscard]] Result<void> look();
    [[nodiscard]] Result<void> look_at_slot(GuardReport& report);
    [[nodiscard]] Result<void> look_at_target();
    [[nodiscard]] std::string look_at_snapshot() const;
    void end_move(const char* guard, std::string why);
    void tell(const GuardReport& report);

    const MoveServers* servers_;
    Interrupt* interrupt_;
    const HeldSnapshots* held_;
    metrics::Registry* registry_;
    Reporter reporter_;
    metrics::Gauge* wal_gauge_;
    metrics::Gauge* behind_gauge_;
    GuardReport told_;
    Interrupt own_;  // ends the thread's waits
    std::unique_ptr<ServerSession> source_;
    std::unique_ptr<ServerSession> target_;
    LagTrend trend_;
    std::uint64_t looks_ = 0;
    std::uint64_t target_standby_lag_bytes_ = 0;
    bool blind_ = false;  // a server doesn't answer
    std::atomic<bool> catching_up_{false};
    mutable std::mutex mutex_;
    std::string finding_;
    std::thread thread_;
};

}  // namespace pgporter
