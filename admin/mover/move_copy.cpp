// The state `copy`: piece by piece, gone on with where it was when a server was away or the instance ended; or, into tables that others have
// rows in too, whose constraints are there already, all of it in one snapshot. And of `index` what makes the pieces one.
#include "admin/mover/apply.hpp"
#include "admin/mover/cleanup.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/piece_journal.hpp"
#include "admin/mover/split_bounds.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::seconds reconnect_for{60};
constexpr std::uint64_t page_bytes = 8'192;

}  // namespace

std::uint32_t MoveRun::copy_jobs() const {
    return record_.request.copy_jobs != 0 ? record_.request.copy_jobs : ports_.config.mover.copy_jobs;
}

PieceSizes MoveRun::piece_sizes() const {
    PieceSizes sizes;
    sizes.jobs = copy_jobs();
    sizes.piece_pages_max = std::uint64_t{ports_.config.mover.copy_piece_mib} * 1'048'576 / page_bytes;
    sizes.part_pages_max = std::min(sizes.part_pages_max, sizes.piece_pages_max);
    return sizes;
}

// What it saw isn't in the stream; each piece must have seen it, too. The snapshot itself isn't needed any longer.
Result<void> MoveRun::note_slot_snapshot() {
    auto seen = source_->exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + quote_literal(snapshot_) +
                              "; SELECT pg_catalog.pg_current_snapshot()::text");
    if (!seen) return seen.error();
    slot_snapshot_ = seen->string(0, 0);
    PP_TRY(source_->exec("COMMIT"));
    snapshot_keeper_.reset();
    return {};
}

Result<void> MoveRun::step_copy() {
    const bool goes_on = record_.state == MoveState::copy || record_.state == MoveState::index;
    if (!goes_on) PP_TRY(enter(MoveState::copy, "copying the rows"));
    throttle_->begin();
    copied_.pacer = &throttle_->pacer();
    auto copied = copies_by_pieces() ? copy_by_pieces(goes_on) : copy_at_once();
    copied_.pacer = nullptr;
    throttle_.reset();
    {
        const std::lock_guard lock(mutex_);
        record_.progress.throttled = 0;
        record_.progress.throttled_by.clear();
    }
    return copied;
}

void MoveRun::tick_of_copy() {
    throttle_->set_standby_lag(standby_lag_bytes_.load(std::memory_order_relaxed));
    tick();
}

Result<void> MoveRun::copy_at_once() {
    const auto tables = tables_to_share();
    CopyPlan plan;
    plan.pieces = plan_pieces(tables, {}, piece_sizes());
    plan.jobs = copy_jobs();
    plan.snapshots = CopySnapshots::one_for_all;
    plan.shared_snapshot = snapshot_;
    {
        const HeldSnapshots::Hold hold(held_snapshots_);
        PP_TRY(copy_tables(*servers_, plan, copied_, held_snapshots_, [this] { tick_of_copy(); }));
        snapshot_keeper_.reset();
    }
    auto nodes = read_file_nodes(*source_, servers_->schemas());
    if (!nodes) return nodes.error();
    for (const auto& table : tables_) {
        if (!table.partitioned && (*nodes)[table.oid] != file_nodes_[table.oid]) rewritten_.insert(&table);
    }
    return {};
}

Result<void> MoveRun::copy_by_pieces(bool goes_on) {
    if (!goes_on) {
        PP_TRY(make_progress_table());
        auto bounds = read_split_bounds(*source_, tables_, piece_sizes());
        if (!bounds) return bounds.error();
        auto target = servers_->target();
        if (!target) return target.error();
        PP_TRY(create_piece_journal(**target, *servers_, plan_pieces(tables_, *bounds, piece_sizes()), slot_snapshot_));
    }
    auto deadline = after(reconnect_for);
    std::chrono::milliseconds pause{100};
    for (bool again = goes_on;; again = true) {
        auto tried = again ? end_earlier_attempts() : Result<void>{};
        if (tried) tried = copy_missing_pieces();
        if (tried || tried.error().kind != ErrorKind::unavailable) return tried;
        // Where it got on, a server was there.
        if (std::exchange(copy_got_on_, false)) {
            deadline = after(reconnect_for);
            pause = std::chrono::milliseconds(100);
        }
        if (passed(deadline)) return tried;
        note("reconnecting: " + tried.error().message);
        if (!interrupt_.sleep(pause)) return interrupt_.error();
        pause = std::min(pause * 2, std::chrono::milliseconds(2'000));
    }
}

// Of this instance, whose connections broke, or of one that was thought to be gone.
Result<void> MoveRun::end_earlier_attempts() {
    if (!keep_owned()) return fail(ErrorKind::cancelled, "another instance has taken the move over");
    {
        auto source = servers_->source();
        if (!source) return source.error();
        PP_TRY(end_other_sessions(**source, *servers_));
    }
    {
        auto target = servers_->target();
        if (!target) return target.error();
        PP_TRY(end_other_sessions(**target, *servers_));
    }
    auto source = servers_->source();
    if (!source) return source.error();
    source_ = std::move(*source);
    return {};
}

Result<void> MoveRun::copy_missing_pieces() {
    auto target = servers_->target();
    if (!target) return target.error();
    auto attempt = begin_copy_attempt(**target, *servers_, tables_);
    if (!attempt) return attempt.error();
    if (attempt->fruitless > ports_.config.mover.restarts_max) {
        return fail(ErrorKind::limit, "the copy was begun " + std::to_string(attempt->fruitless) + " times without finishing a piece (mover.restarts_max)");
    }
    copied_.rows.store(attempt->copied.rows);
    copied_.bytes.store(attempt->copied.bytes);
    CopyPlan plan;
    plan.part_pages_max = piece_sizes().part_pages_max;
    plan.jobs = copy_jobs();
    plan.attempt = attempt->number;
    plan.slot_snapshot = RowSnapshot::parse(attempt->slot_snapshot);
    if (!plan.slot_snapshot) return fail(ErrorKind::internal, "the slot's snapshot can't be read");
    for (const auto& piece : attempt->pieces) {
        if (!piece.snapshot) plan.pieces.push_back(piece.piece);
    }
    auto copied = copy_tables(*servers_, plan, copied_, held_snapshots_, [this] {
        note("");
        tick_of_copy();
    });
    copy_got_on_ = copied_.rows.load() > attempt->copied.rows;
    PP_TRY(copied);
    auto pieces = read_pieces(**target, *servers_, tables_);
    if (!pieces) return pieces.error();
    pieces_ = PieceMap();
    split_tables_.clear();
    for (const auto& piece : *pieces) {
        if (!piece.snapshot) return fail(ErrorKind::internal, "a piece of the copy is missing");
        if (!piece.piece.range.is_all()) split_tables_.insert(piece.piece.tables.front()->qualified_name());
        pieces_.add(piece.piece, *piece.snapshot);
    }
    return {};
}

// What may be there before the pieces are of one moment: in a table that was read in several, two rows may have what only one can have.
Result<void> MoveRun::build_indexes() {
    auto all = read_indexes(*source_, servers_->schemas());
    if (!all) return all.error();
    std::erase_if(*all, [this](const TableIndex& index) {
        return index.exclusive && !index.identity && split_tables_.contains(qualified(index.schema, index.table));
    });
    return definitions_->restore_indexes(*servers_, *all, copy_jobs());
}

// Before constraints are made that hold only in one moment, the stream makes the pieces of one.
Result<void> MoveRun::even_out_pieces() {
    note("applying what was written while the rows were copied");
    PP_TRY(make_follower());
    follower_->set_pieces(&pieces_);
    auto connected = follower_->connect();
    if (!connected && connected.error().kind == ErrorKind::unavailable) connected = reconnect();
    PP_TRY(connected);
    for (;;) {
        // For good: what comes twice after a server's crash would have to be held against the pieces again.
        const auto applied = apply_until_now(Durability::now);
        if (!applied) return applied.error();
        if (*applied) break;
    }
    follower_->set_pieces(nullptr);
    follower_->close();
    note("");
    return {};
}

// Half of the constraints and triggers can't be told apart from all of them.
Result<void> MoveRun::end_resumable_part() {
    auto target = servers_->target();
    if (!target) return target.error();
    return close_piece_journal(**target, *servers_);
}

// Nothing but copy and indexes are worth going on with: what comes before takes seconds.
Result<void> MoveRun::take_up_copy() {
    const auto deadline = after(reconnect_for);
    for (std::chrono::milliseconds pause{100};; pause = std::min(pause * 2, std::chrono::milliseconds(2'000))) {
        auto taken = find_copy();
        if (taken || taken.error().kind != ErrorKind::unavailable || passed(deadline)) return taken;
        note("reconnecting: " + taken.error().message);
        if (!interrupt_.sleep(pause)) return interrupt_.error();
    }
}

Result<void> MoveRun::find_copy() {
    PP_TRY(find_servers());
    if (!copies_by_pieces()) return fail(ErrorKind::conflict, "its rows go into shared tables");
    auto target = servers_->target();
    if (!target) return target.error();
    auto open = has_open_piece_journal(**target, *servers_);
    if (!open) return open.error();
    if (!*open) return fail(ErrorKind::not_found, "no row has been copied yet, or constraints are being made already");
    // Locks of a copy that still runs somewhere would be in the way.
    PP_TRY(end_other_sessions(**target, *servers_));
    auto report = look_ahead_at_servers();
    if (!report) return report.error();
    auto slot = source_->exec("SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", {servers_->artefact()});
    if (!slot) return slot.error();
    if (slot->empty() || slot->text(0, 0) == "lost") return fail(ErrorKind::not_found, "the source no longer has the log since the copy began");
    PP_TRY(learn_tables());
    auto copied_as = read_progress_signature(**target, *servers_);
    if (!copied_as) return copied_as.error();
    if (*copied_as != signature_) return fail(ErrorKind::conflict, "definitions have changed since the copy began");
    return dump_definitions();
}

}  // namespace pgporter
