// MoveJournal: the durable record of moves. The PostgreSQL store (catalog/store.hpp) is the real one; unit tests use a fake.
// Blocking; control-plane threads only; each call is one durable transaction (synchronous_commit on).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "catalog/move.hpp"
#include "catalog/move_queue.hpp"

namespace pgporter {

// Held while this process owns a move (an advisory lock of the catalog session). Dropped when destroyed or when the session dies.
class MoveOwnership {
  public:
    virtual ~MoveOwnership() = default;
    // False: the session has died, and the lock with it. Doesn't block.
    [[nodiscard]] virtual bool is_held() { return true; }
    // Takes the lock again after that. conflict: another instance has taken the move over.
    [[nodiscard]] virtual Result<void> renew() { return {}; }
};

class MoveJournal {
  public:
    virtual ~MoveJournal() = default;

    // conflict: the tenant already has an unfinished move. not_found: no such tenant. limit: so many wait or are at work already.
    virtual Result<MoveRecord> create_move(const MoveRequest& request, const Placement& source, const Placement& target, Epoch epoch,
                                           std::uint32_t unfinished_max) = 0;
    // All moves that aren't finished, the oldest first.
    virtual Result<std::vector<QueueEntry>> queue() = 0;
    // planned > preflight, if it is this move's turn (catalog/move_queue.hpp); false: it isn't. Atomic over all instances.
    virtual Result<bool> admit(MoveId move, const QueueLimits& limits) = 0;
    // Compare-and-set of the state; also appends a row to the move's steps. conflict: the state isn't `from`.
    // `note` becomes the step's text; with `to` == aborting it becomes the move's error, with `to` == opened why there is no way
    // back (empty: there is).
    virtual Result<void> advance(MoveId move, MoveState from, MoveState to, std::string_view note) = 0;
    virtual Result<void> save_progress(MoveId move, const MoveProgress& progress) = 0;
    // THE commit point: in one transaction sets the tenant's placement and epoch = expected + 1 where its epoch = expected, and the
    // move's state drained > flipped. In state rolling_back the same the other way: to the source, > flipped_back, if this process made that step.
    // conflict: somebody else changed either. Returns the tenant as it is now.
    virtual Result<Tenant> flip(MoveId move, Epoch expected, CatalogVersion& version_out) = 0;
    virtual Result<MoveRecord> find_move(MoveId move) = 0;
    virtual Result<std::vector<MoveRecord>> list_moves(bool unfinished_only) = 0;  // newest first, at most 1000

    virtual Result<std::int64_t> add_cleanup(const CleanupRecord& record) = 0;
    virtual Result<void> cleanup_done(std::int64_t id) = 0;
    virtual Result<std::vector<CleanupRecord>> open_cleanups(MoveId move) = 0;  // newest first: undo in reverse order

    // Gives the move's target database an entry like its source database's (isolation, tenant_setting, tenant_column), if it has
    // none: what kept the tenant apart goes on doing so. Writes the cleanup record of what it makes itself, in the same transaction:
    // an operator's own entry has none. Forgetting it is for moves that haven't flipped, or have flipped back.
    virtual Result<void> describe_target_database(MoveId move) = 0;
    virtual Result<void> forget_target_database(MoveId move) = 0;

    // conflict: another instance (or another thread here) owns it.
    virtual Result<std::unique_ptr<MoveOwnership>> own_move(MoveId move) = 0;
};

}  // namespace pgporter
