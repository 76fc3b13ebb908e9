// The end of a move that was opened: the source's data goes, once it's sure that nothing was written there past the fence.
#include "admin/mover/cleanup.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/preflight.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds retry_max{10'000};
constexpr std::chrono::seconds leave_within{1};

}  // namespace

// CASCADE must not reach beyond the tenant: what others have come to build on its old tables stops it.
Result<void> MoveRun::drop_source() {
    if (record_.source.kind == PlacementKind::rows) return drop_source_rows();
    auto opened = servers_->source();
    if (!opened) return opened.error();
    auto& source = **opened;
    const auto read = servers_->read_shared_schemas();
    if (!read && read.error().kind == ErrorKind::not_found) return {};  // all gone already
    if (!read) return read;
    auto users = read_outside_users(source, servers_->schemas());
    if (!users) return users.error();
    if (!users->empty()) {
        return fail(ErrorKind::conflict, users->front() + " still uses the tenant's old schema", {},
                    "drop it, then this goes on by itself");
    }
    for (const auto& schema : servers_->schemas().names()) {
        PP_TRY(retry_locks(interrupt_, 600, [&] {
            return locked_transaction(source, ports_.config.mover.lock_timeout_ms, "DROP SCHEMA IF EXISTS " + quote_ident(schema) + " CASCADE");
        }));
    }
    return {};
}

// Another instance that follows the way back leaves it when it reads that the move is opened; one that rolls it back is waited for.
bool MoveRun::own_to_complete() {
    while (!own(after(leave_within))) {
        const auto found = ports_.journal.find_move(record_.id);
        if (interrupt_.stopped() || (found && is_finished(found->state))) return false;
        if (!found || found->state != MoveState::reversing) continue;
        const auto told = ports_.journal.advance(record_.id, MoveState::reversing, MoveState::opened, "the move is being completed");
        if (!told) log::warning("move_not_owned", {{"move", std::to_string(record_.id.value)}, {"reason", told.error().message}});
    }
    return true;
}

// The way back has brought everything that was written to the target. Whatever differs was written past the fence: by somebody who has
// switched its triggers off, as only an owner or a superuser can.
Result<std::string> MoveRun::find_late_writes() {
    auto way_back = has_way_back();
    if (!way_back) return way_back.error();
    if (!*way_back) return std::string();
    note("comparing the source with the target before its data goes");
    save_progress();
    auto lost = way_back_lost();
    if (!lost) return lost.error();
    if (!lost->empty()) return std::string();
    verifier_.reset();  // one from before says nothing of now
    auto turned = turn_round();
    if (turned) {
        verifier_.emplace(*servers_, tables_, *follower_, copy_jobs());
        turned = verify_everything();
    }
    const bool differs = verifier_.has_value() && !turned && turned.error().kind == ErrorKind::conflict;
    close_sessions();
    auto facing = servers_->facing(Way::there);
    servers_.emplace(std::move(facing));
    if (turned) return std::string();
    const auto& error = turned.error();
    if (differs) return error.message;
    const bool passes = error.kind == ErrorKind::unavailable || error.kind == ErrorKind::timeout || error.kind == ErrorKind::cancelled;
    if (passes) return error;
    return std::string();  // definitions have changed, say: it can't be compared, as it couldn't be rolled back
}

void MoveRun::run_complete() {
    complete(Completion::checked);
}

void MoveRun::run_complete_unchecked() {
    complete(Completion::unchecked);
}

void MoveRun::complete(Completion completion) {
    if (!own_to_complete()) return;
    interrupt_.shield(Shield::cancel);
    // A rollback may have been quicker.
    const auto found = ports_.journal.find_move(record_.id);
    if (found && found->state != record_.state) set_state(found->state);
    if (is_finished(record_.state)) return;
    if (record_.state != MoveState::opened && record_.state != MoveState::reversing) {
        rollback_requested_.store(record_.state == MoveState::rolling_back);
        return follow_way_back();
    }
    std::chrono::milliseconds pause{100};
    for (;;) {
        std::string late_writes;
        auto done = [&]() -> Result<void> {
            if (!servers_) PP_TRY(find_servers());
            if (completion == Completion::checked) {
                auto late = find_late_writes();
                if (!late) return late.error();
                late_writes = *std::move(late);
                if (!late_writes.empty()) return {};
                completion = Completion::unchecked;
                note("");
                save_progress();
            }
            // From here on there is no way back, whoever goes on with this.
            if (record_.state == MoveState::reversing) PP_TRY(enter(MoveState::opened, "the move is being completed"));
            PP_TRY(undo_way_back());
            PP_TRY(drop_source());
            PP_TRY(undo_records(ports_.journal, *servers_,
                                [](const CleanupRecord& record) { return record.when == CleanupWhen::always; }));
            // What is left belongs to the tenant now.
            auto records = ports_.journal.open_cleanups(record_.id);
            if (!records) return records.error();
            for (const auto& record : *records) {
                if (record.kind == ArtefactKind::target_database) PP_TRY(keep_database(record, *servers_));
                PP_TRY(ports_.journal.cleanup_done(record.id));
            }
            return enter(MoveState::completed, "the source's data is gone");
        }();
        if (done && !late_writes.empty()) {
            observer_->registry.counter("pgporter_move_late_writes_total", "Moves that weren't completed, as the source had what the target hadn't.").inc();
            failed_request_ = std::string(not_completed_note) + late_writes + "; somebody has written past the fence: see what it was, then complete with force";
            log::warning("move_late_writes", {{"move", std::to_string(record_.id.value)},
                                              {"tenant", record_.request.tenant},
                                              {"reason", utf8_only(late_writes)}});
            completes_.store(false);
            return follow_way_back();
        }
        if (done) break;
        note("completing: " + done.error().message);
        save_progress();
        log::warning("move_complete_failed",
                     {{"move", std::to_string(record_.id.value)}, {"reason", utf8_only(done.error().message)}});
        if (!interrupt_.sleep(pause)) return;
        pause = std::min(pause * 2, retry_max);
    }
    count_outcome("completed");
}

}  // namespace pgporter
