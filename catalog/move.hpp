// A move's states, request and records: pure values and one transition function. The mover (admin/mover) acts on them, the journal
// (catalog/journal.hpp) keeps them. Any thread.
//
//   planned > preflight > schema > gate > slot > copy > index > catchup > verify > reverse_slot > hold > fenced > drained
//     > [flip: compare-and-set of the tenant's epoch] flipped > opened > reversing > completed
//   every state before `flipped` > aborting > aborted
//   reversing > rolling_back > [flip back: compare-and-set of the epoch] flipped_back > rolled_back
//
// `gate` installs the fence's triggers, disabled. `flipped` is the point of no return of the way there: before it the source owns the
// tenant and every failure goes to `aborting`; after it the target does. `reverse_slot`, `hold`, `fenced` and `drained` may go back to
// `verify` when a cutover attempt gives way.
// `reverse_slot` prepares the way back, `reversing` follows it: what is written to the target goes to the fenced source too, until
// `complete` or rollback. `opened` without it: there is no way back, MoveRecord::rollback_refused says why. `rolling_back` is the whole
// cutover mirrored, and goes back to `reversing` when it gives way: the target owns the tenant until `flipped_back`, where the source
// does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "catalog/config.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {

enum class MoveState {
    planned, preflight, schema, gate, slot, copy, index, catchup, verify, reverse_slot, hold, fenced, drained,
    flipped, opened, reversing, rolling_back, flipped_back, rolled_back, completed, aborting, aborted
};

[[nodiscard]] std::string_view to_text(MoveState state);  // "planned" ...
[[nodiscard]] std::optional<MoveState> move_state_from(std::string_view text);
[[nodiscard]] bool may_follow(MoveState from, MoveState to);
[[nodiscard]] bool is_finished(MoveState state);          // completed, rolled_back or aborted: the tenant may be moved again
[[nodiscard]] bool is_before_flip(MoveState state);       // aborting is still possible

// From shared to dedicated, from dedicated to shared, from one dedicated database to another. Says itself in source and target.
enum class MoveKind { promote, demote, relocate };
[[nodiscard]] std::string_view to_text(MoveKind kind);  // "promote" ...
[[nodiscard]] MoveKind kind_of_move(PlacementKind source, PlacementKind target);

struct MoveRequest {
    std::string tenant;
    std::string cluster;   // target; may be the source's own
    std::string database;  // target; created if it doesn't exist, but for a demote
    std::uint32_t copy_jobs = 0;  // 0: mover.copy_jobs
    bool cutover = true;          // false: waits, caught up, until cutover is asked for
    MoveKind kind = MoveKind::promote;
};

struct MoveProgress {
    std::uint64_t rows_total_estimate = 0;
    std::uint64_t rows_copied = 0;
    std::uint64_t bytes_copied = 0;
    std::uint64_t bytes_total_estimate = 0;  // that the copy will have moved
    double bytes_per_second = 0;             // of the copy, in the last seconds
    std::optional<double> seconds_left;      // until it can cut over; none: nobody can tell
    double throttled = 0;                    // share of the copy's time in the last seconds in which it waited so as not to disturb others
    std::string throttled_by;                // neighbours, standbys or copy_mib_per_s_max
    std::uint64_t changes_applied = 0;       // row changes of the stream
    std::uint64_t transactions_applied = 0;
    std::uint64_t rows_verified = 0;
    std::uint64_t lag_bytes = 0;             // WAL between the source's end and what the target has durably applied
    std::uint64_t source_wal_bytes = 0;      // that the source keeps for the move
    std::uint32_t cutover_attempts = 0;
    double pause_ms = 0;                     // of the successful cutover: from hold to release
    std::string note;                        // what it does now, or why the last cutover attempt gave way
};

struct MoveRecord {
    MoveId id;
    MoveRequest request;
    Placement source;
    Placement target;
    Epoch epoch;  // the tenant's epoch when the move began; the flip makes it epoch + 1
    MoveState state = MoveState::planned;
    std::uint32_t place_in_line = 0;  // in `planned`: 1 is the next one, over all instances
    MoveProgress progress;
    std::string error;       // why it was aborted
    std::string rollback_refused;  // in `opened`: why there is no way back
    std::string created_at;  // RFC 3339, UTC
    std::string updated_at;
    std::string finished_at;  // empty while it isn't
};

// A rollback or a completion that was asked for and has come to nothing, for the reason in the note, which begins with one of these.
inline constexpr std::string_view rollback_failed_note = "rollback failed: ";
inline constexpr std::string_view not_completed_note = "not completed: ";
[[nodiscard]] bool has_request_failed(const MoveRecord& move);

// What a move made outside the catalog. The record is written before the thing is made, and done only when it is gone or belongs.
enum class ArtefactKind {
    replication_slot, publication, fence_triggers, fence_function, progress_table, target_schema, target_database,
    catalog_database,  // the target database's entry in the catalog
    target_rows        // the tenant's in shared tables; its name says whose (admin/mover/row_deletion.hpp)
};
enum class CleanupWhen {
    always,       // whenever the move ends (slot, publication, fence, progress table)
    after_abort,  // only when it is aborted (what was made on the target)
};
struct CleanupRecord {
    std::int64_t id = 0;
    MoveId move;
    ArtefactKind kind = ArtefactKind::replication_slot;
    CleanupWhen when = CleanupWhen::always;
    std::string cluster;
    std::string database;
    std::string name;
    bool done = false;
};
[[nodiscard]] std::string_view to_text(ArtefactKind kind);
[[nodiscard]] std::optional<ArtefactKind> artefact_kind_from(std::string_view text);
[[nodiscard]] std::string_view to_text(CleanupWhen when);
[[nodiscard]] std::optional<CleanupWhen> cleanup_when_from(std::string_view text);

}  // namespace pgporter
