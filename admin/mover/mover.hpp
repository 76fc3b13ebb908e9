// Mover: runs moves. Each move has a thread of its own that walks the states of catalog/move.hpp; the state is in the
// journal before the act. Owned by proxy/app; its public functions may be called from any control-plane thread and
// don't block on servers, except preflight(). It must not: touch a data-path thread other than through TenantGate;
// decide anything that the journal's rows don't say.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.hpp"
#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/gate.hpp"
#include "catalog/journal.hpp"
#include "catalog/neighbour_latency.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

struct MoveBlocker {
    std::string code;    // stable, e.g. "table_without_key"
    std::string object;  // what it is about, e.g. "acme.audit"
    std::string message;
    std::string remedy;
};
struct PreflightReport {
    std::vector<MoveBlocker> blockers;  // empty: the move may start
    std::vector<MoveBlocker> warnings;
    std::uint64_t tables = 0;
    std::uint64_t rows_estimate = 0;
    std::uint64_t bytes = 0;  // tables with indexes and TOAST
    double seconds_estimate = 0;
    Placement source;
    Placement target;
};

struct MoveEvent {
    std::uint64_t sequence = 0;  // grows by one with each event of one move
    std::string type;            // "state" or "progress"
    MoveRecord record;
};

enum class Completion { checked, unchecked };

class Mover {
  public:
    struct Ports {
        const Config& config;
        MoveJournal& journal;
        TenantGate& gate;
        SnapshotPublisher& publisher;
        metrics::Registry& registry;
        NeighbourLatency* latency = nullptr;  // none: neighbours don't slow a copy down
    };
    explicit Mover(Ports ports);
    ~Mover();  // stop()

    // Looks, changes nothing (what it tries, it rolls back). not_found: tenant or cluster. invalid: the target is the
    // source.
    [[nodiscard]] Result<PreflightReport> preflight(const MoveRequest& request);
    // Records the move; it begins when its turn comes (catalog/move_queue.hpp), at once if nobody is before it. Preflight is its first
    // step (blockers abort it and are its error). conflict: the tenant is moving, or doesn't live where this kind of move begins.
    // limit: mover.queue_max moves wait already.
    [[nodiscard]] Result<MoveRecord> start(const MoveRequest& request);
    [[nodiscard]] Result<MoveRecord> cancel(MoveId move);  // conflict: past the flip, or finished
    [[nodiscard]] Result<MoveRecord> cutover(
        MoveId move);  // for a move with request.cutover == false, or one out of attempts
    // Drops the source's data; conflict unless `opened` or `reversing`. With a way back it is first compared with the target once more: a
    // difference is a write that somebody has got past the fence; then the move stays `reversing` and its note says so.
    [[nodiscard]] Result<MoveRecord> complete(MoveId move, Completion completion = Completion::checked);
    // Back to the source with everything that was written since; conflict unless `reversing`.
    [[nodiscard]] Result<MoveRecord> rollback(MoveId move);
    [[nodiscard]] Result<MoveRecord> find(MoveId move);      // with the progress of this moment
    [[nodiscard]] Result<std::vector<MoveRecord>> list();

    // Takes up what a previous process left: before the flip it is aborted and cleaned up, after it is finished, and its
    // way back followed. From here on moves that wait in line begin here, too, whichever instance was asked for them.
    void recover();
    // Events of all moves from now on, called on the move's thread; must not block. Returns a number for unsubscribe().
    std::uint64_t subscribe(std::function<void(const MoveEvent&)> subscriber);
    void unsubscribe(std::uint64_t subscription);
    // Stops all threads at the next safe point. Moves stay in the journal as they are; recover() takes them up.
    void stop();

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace pgporter
