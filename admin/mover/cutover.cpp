// The states from `verify` to `flipped`: proving that both sides are equal, and the pause. Inside the pause the move is
// shielded from cancel and stop; every wait there ends before the gate would open by itself. A rollback is the same with
// the servers facing the way back: "source" is where the tenant lives, "target" where it goes.
//
//   prepare (connections, plans, sequences, last comparisons) > journal: hold, fenced > gate.hold > drained >
//   fence > marker in the stream > target commit with journal: drained > comparison of the last rows > journal.flip >
//   publish > release
//
// What doesn't fit its bound gives way: back to `verify`, later once more. What is wrong aborts. Both say so in the
// journal before the fence is lifted.
#include "admin/mover/move_names.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/row_fence.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr int verify_rounds_max = 30;
constexpr int shrinking_rounds_max = 3;
constexpr std::uint64_t few_rows = 50;
constexpr std::chrono::milliseconds give_way_pause_max{10'000};
constexpr std::chrono::milliseconds warm_max{2'000};
constexpr std::chrono::milliseconds clients_first{100};

// What another try may cure.
bool may_pass(const Error& error) {
    return error.kind == ErrorKind::timeout || error.kind == ErrorKind::limit;
}

std::string why_not_drained(const DrainStatus& status) {
    auto text = std::to_string(status.transactions) + (status.transactions == 1 ? " transaction" : " transactions") +
                " still running";
    if (status.pinned > 0)
        text += ", " + std::to_string(status.pinned) + (status.pinned == 1 ? " pinned session" : " pinned sessions");
    if (status.silent > 0)
        text += ", " + std::to_string(status.silent) + (status.silent == 1 ? " other instance hasn't" : " other instances haven't") +
                " acknowledged the hold";
    if (status.expired) text += ", the hold expired";
    return text;
}

}  // namespace

struct MoveRun::Pause {
    HoldId hold;
    bool held = false;
    std::chrono::steady_clock::time_point began;
    Deadline deadline;
    std::string marker;
    bool fenced = false;  // the fence is on, or may be
    std::vector<SequenceValue> sequences;
    std::string phases;  // what took how long, for the log
    std::chrono::steady_clock::time_point phase_began;

    void end_phase(const char* name) {
        const auto now = std::chrono::steady_clock::now();
        const auto us =
            std::chrono::duration_cast<std::chrono::microseconds>(now - std::exchange(phase_began, now)).count();
        phases += (phases.empty() ? "" : " ") + std::string(name) + " " + std::to_string(us);
    }
};

Result<void> MoveRun::step_verify() {
    PP_TRY(enter(MoveState::verify, "comparing source and target"));
    const auto jobs = record_.request.copy_jobs != 0 ? record_.request.copy_jobs : ports_.config.mover.copy_jobs;
    verifier_.emplace(*servers_, tables_, *follower_, jobs);
    follower_->be_strict();
    PP_TRY(verify_everything());
    return cut_over();
}

Result<void> MoveRun::verify_everything() {
    for (;;) {
        auto compared = verifier_->compare_all(*source_);
        {
            const std::lock_guard lock(mutex_);
            record_.progress.rows_verified = verifier_->rows_verified();
        }
        if (compared) return {};
        const auto kind = compared.error().kind;
        if (kind != ErrorKind::timeout && kind != ErrorKind::unavailable) return compared;
        note("comparing again: " + compared.error().message);
        PP_TRY(reconnect());
    }
}

Result<void> MoveRun::wait_for_request() {
    if (going_back() || record_.request.cutover || cutover_requested_.load()) return {};
    note("caught up and compared; waits for the cutover to be asked for");
    save_progress();
    while (!cutover_requested_.load()) {
        auto followed = follower_->follow_for(std::chrono::milliseconds(100));
        if (!followed && followed.error().kind == ErrorKind::unavailable) {
            PP_TRY(reconnect());
            continue;
        }
        PP_TRY(followed);
    }
    return {};
}

Result<void> MoveRun::cut_over() {
    for (;;) {
        PP_TRY(wait_for_request());
        note(going_back() ? "preparing the rollback" : "preparing the cutover");
        auto done = begin_attempt();
        if (done) done = prepare_cutover();
        if (done) {
            interrupt_.shield(Shield::all);
            in_pause_ = true;
            done = hold_and_flip();
            in_pause_ = false;
            interrupt_.shield(going_back() ? Shield::cancel : Shield::none);
        }
        if (done) return {};
        if (interrupt_.heard()) return interrupt_.error();
        if (record_.state == MoveState::aborting) return done;
        if (done.error().kind == ErrorKind::unavailable) {
            note("a server was away: " + done.error().message);
            PP_TRY(reconnect());
            continue;
        }
        if (!may_pass(done.error())) return done;
        PP_TRY(give_way(done.error()));
    }
}

Result<void> MoveRun::begin_attempt() {
    if (!going_back()) return step_reverse_slot();
    if (record_.state == MoveState::rolling_back) return {};
    return enter(MoveState::rolling_back, "trying again");
}

Result<void> MoveRun::enter_phase(MoveState to, std::string_view text, std::chrono::milliseconds patience) {
    return going_back() ? Result<void>{} : enter(to, text, patience);
}

// An attempt that didn't fit its bounds. Nothing happened; the next one comes later, and after the last an operator
// decides.
Result<void> MoveRun::give_way(const Error& why) {
    if (record_.state == MoveState::reverse_slot) PP_TRY(enter(MoveState::verify, why.message));
    std::uint32_t attempts = 0;
    {
        const std::lock_guard lock(mutex_);
        attempts = ++record_.progress.cutover_attempts;
        record_.progress.note = utf8_only((going_back() ? "rollback gave way: " : "cutover gave way: ") + why.message);
    }
    log::info(
        "move_cutover_gave_way",
        {{"move", std::to_string(record_.id.value)}, {"attempt", std::to_string(attempts)}, {"reason", why.message}});
    save_progress();
    if (attempts % std::max<std::uint32_t>(ports_.config.mover.cutover_attempts_max, 1) == 0) {
        if (going_back()) return fail(ErrorKind::limit, "it gave way " + std::to_string(attempts) + " times: " + why.message);
        cutover_requested_.store(false);
        // Nobody reads the slot for the way back, and nobody knows for how long.
        const auto undone = undo_way_back();
        if (!undone) note("what the way back needs couldn't be taken away: " + undone.error().message);
        // For as long as nobody asks, the tenant needn't pay for a fence.
        if (servers_->shared_source()) PP_TRY(drop_fence_triggers(*source_, *servers_));
        while (!cutover_requested_.load()) {
            auto followed = follower_->follow_for(std::chrono::milliseconds(100));
            if (!followed && followed.error().kind == ErrorKind::unavailable) {
                PP_TRY(reconnect());
                continue;
            }
            PP_TRY(followed);
        }
        return {};
    }
    const auto pause =
        std::min(std::chrono::milliseconds(100) * (1U << std::min<std::uint32_t>(attempts, 10)), give_way_pause_max);
    auto followed = follower_->follow_for(pause);
    if (!followed && followed.error().kind == ErrorKind::unavailable) return reconnect();
    return followed;
}

Result<void> MoveRun::prepare_cutover() {
    auto found = source_->exec(signature_query_);
    if (!found) return found.error();
    if (found->text(0, 0) != signature_) {
        return fail(ErrorKind::conflict,
                    "the application changed the definition of " + servers_->what_moves() + " during the move",
                    {}, "start the move again when the change of the schema is complete");
    }
    PP_TRY(follower_->follow_during([this] { return prepare_connections(); }));
    // Few enough rows for the pause, and fewer still while another round makes them fewer: a round costs the clients
    // nothing.
    for (int round = 0;; ++round) {
        const auto remaining = verifier_->remaining_rows();
        const bool enough = remaining <= ports_.config.mover.pause_verify_rows_max;
        if (remaining <= few_rows || (enough && round >= shrinking_rounds_max)) break;
        if (round == verify_rounds_max) {
            return fail(ErrorKind::limit,
                        std::to_string(remaining) +
                            " changed rows are still to be compared, more than mover.pause_verify_rows_max");
        }
        PP_TRY(verifier_->compare_changed(*source_));
    }
    {
        const std::lock_guard lock(mutex_);
        record_.progress.rows_verified = verifier_->rows_verified();
    }
    PP_TRY(verifier_->rehearse_pause());
    // The stream at its end and the target flushed: the pause has little left to do.
    const auto marker = "near:" + std::to_string(++markers_);
    PP_TRY(emit_marker(marker));
    PP_TRY(follower_->follow_to_marker(marker, std::nullopt));
    return follower_->commit(Durability::now, std::nullopt);
}

// On a thread of its own, while the stream goes on: everything the pause uses is opened, planned and read once.
Result<void> MoveRun::prepare_connections() {
    if (servers_->rows() != nullptr) PP_TRY(wait_for_target_entry());
    if (servers_->shared_source()) PP_TRY(install_row_fence(*source_, *servers_, tables_));
    if (servers_->shared_target()) {
        PP_TRY(id_blocks_.keep_filled(*source_, *servers_));
        PP_TRY(id_blocks_.raise_shared(*source_, *servers_));
    }
    auto sequences = read_sequences(*source_, servers_->schemas());
    if (!sequences) return sequences.error();
    // Those of shared tables are everybody's.
    if (servers_->shared_target()) sequences->clear();
    id_blocks_.leave_out(*sequences);
    auto target = servers_->target();
    if (!target) return target.error();
    if (const auto set = set_sequences_statement(*sequences, {}); !set.empty()) PP_TRY((*target)->exec(set));
    sequences_ = std::move(*sequences);
    auto fence = FenceSession::prepare(*servers_, tables_, signature_query_, sequences_);
    if (!fence) return fence.error();
    fence_.emplace(std::move(*fence));
    if (going_back()) {
        auto lifter = FenceLifter::prepare(servers_->facing(Way::there));
        if (!lifter) return lifter.error();
        lifter_.emplace(std::move(*lifter));
    }
    PP_TRY(verifier_->prepare_pause());
    const auto warmed = ports_.gate.warm(record_.request.tenant, servers_->target_placement(), warm_max);
    log::debug("move_warmed", {{"move", std::to_string(record_.id.value)}, {"connections", std::to_string(warmed)}});
    return {};
}

Result<void> MoveRun::hold_and_flip() {
    Pause pause;
    pause.marker = "fence:" + std::to_string(++markers_);
    PP_TRY(enter_phase(MoveState::hold, "holding new transactions", std::chrono::seconds(2)));
    // From now on the fence may be on, says the journal: before the gate is held, so that nobody waits for the catalog's disk.
    const auto told = enter_phase(MoveState::fenced, "waiting for running transactions, then fencing the source", std::chrono::seconds(1));
    if (!told) return back_out(pause, told.error());
    pause.began = pause.phase_began = std::chrono::steady_clock::now();
    // Four fifths: what remains is for backing out before the gate opens by itself.
    pause.deadline = pause.began + ports_.config.mover.hold_ms_max * 4 / 5;
    auto hold = ports_.gate.hold(record_.request.tenant, ports_.config.mover.hold_ms_max);
    if (!hold) {
        PP_TRY(enter(calm_state(), "the gate couldn't be held: " + hold.error().message));
        return fail(ErrorKind::timeout, "the gate couldn't be held: " + hold.error().message);
    }
    pause.hold = *hold;
    pause.held = true;

    // The stream is followed while the tenant drains and the fence commits: its last changes are applied when the
    // marker is written.
    auto done = follower_->follow_during([&] { return drain_and_fence(pause); });
    if (done) done = drain_stream(pause);
    if (done) done = flip(pause);
    if (!done) return back_out(pause, done.error());
    pause.end_phase("flip");
    if (going_back()) open_the_source(pause);
    const bool in_time = ports_.gate.release(pause.hold);
    const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - pause.began).count();
    observer_->registry.histogram("pgporter_move_pause_seconds", "Time from hold to release of successful cutovers.")
        .observe_seconds(seconds);
    {
        const std::lock_guard lock(mutex_);
        record_.progress.pause_ms = seconds * 1'000;
        record_.progress.rows_verified = verifier_->rows_verified();
        record_.progress.note.clear();
    }
    set_state(going_back() ? MoveState::flipped_back : MoveState::flipped);
    log::info(going_back() ? "move_rolled_back" : "move_cut_over",
              {{"move", std::to_string(record_.id.value)},
                                {"pause_ms", std::to_string(seconds * 1'000)},
                                {"phases_us", pause.phases}});
    if (!in_time) log::warning("move_hold_expired", {{"move", std::to_string(record_.id.value)}});
    // Who has waited goes first: all that is left to do writes to the same disks. A stop is heard later.
    static_cast<void>(interrupt_.sleep(clients_first));
    tick();
    save_progress();
    return {};
}

Result<void> MoveRun::drain_and_fence(Pause& pause) {
    const auto status = ports_.gate.wait_drained(pause.hold, ports_.config.mover.drain_ms_max);
    if (!status.drained) return fail(ErrorKind::timeout, why_not_drained(status));
    pause.end_phase("drain");
    const auto pid = fence_->session().backend_pid();
    auto outcome = fence_->enable(signature_, pause.marker, ports_.config.mover.lock_timeout_ms, pause.deadline);
    pause.end_phase("fence");
    if (outcome) {
        pause.fenced = true;
        pause.sequences = std::move(outcome->sequences);
        return {};
    }
    auto error = outcome.error();
    if (error.kind == ErrorKind::unavailable) {
        // Nobody told us whether it was committed. Until we know, it is.
        pause.fenced = true;
        auto state = fence_after_doubt(pid);
        if (state && *state != FenceState::enabled) pause.fenced = false;
    } else if (error.kind == ErrorKind::timeout) {
        error.message = "the tenant's tables couldn't be locked in time: " + error.message;
    } else if (error.sqlstate == drift_sqlstate) {
        error.message =
            "the application changed the definition of " + servers_->what_moves() + " during the move";
    }
    return error;
}

// What the database itself says, once the connection that might still commit is certainly gone.
Result<FenceState> MoveRun::fence_after_doubt(int backend_pid) {
    auto opened = servers_->source();
    if (!opened) return opened.error();
    for (;;) {
        auto rows = (*opened)->exec(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1::int AND usename = session_user "
            "AND application_name = current_setting('application_name')",
            {std::to_string(backend_pid)}, after(std::chrono::seconds(2)));
        if (!rows) return rows.error();
        if (rows->empty()) return read_fence_state(**opened, *servers_);
        ::poll(nullptr, 0, 2);
    }
}

Result<void> MoveRun::drain_stream(Pause& pause) {
    PP_TRY(follower_->follow_to_marker(pause.marker, pause.deadline));
    pause.end_phase("stream");
    if (const auto set = set_sequences_statement(pause.sequences, sequences_); !set.empty())
        PP_TRY(follower_->applier().run(set));
    if (servers_->rows() != nullptr) {
        PP_TRY(follower_->settle(pause.deadline));
        PP_TRY(verifier_->fetch_missing());
    }
    if (follower_->left_behind() > left_behind_known_) {
        return fail(ErrorKind::conflict, "the tenant has just changed its own copy of a global table, which a rollback leaves behind");
    }
    // The source is frozen: its side of the comparison runs while the target and the journal commit, which wait for two
    // disks at once; the flip comes only when both have answered and the rows are equal.
    PP_TRY(verifier_->ask_source());
    PP_TRY(follower_->send_commit(Durability::now));
    PP_TRY(enter_phase(MoveState::drained, "the stream has ended, the target commits", std::chrono::seconds(1)));
    pause.end_phase("journal");
    PP_TRY(follower_->settle(pause.deadline));
    static_cast<void>(follower_->take_missing());
    pause.end_phase("target");
    PP_TRY(verifier_->ask_target());
    PP_TRY(verifier_->judge(pause.deadline));
    pause.end_phase("compare");
    pause.phases += " rows " + std::to_string(verifier_->remaining_rows());
    if (going_back()) {
        PP_TRY(lifter_->lift(pause.deadline));
        pause.end_phase("lift");
    }
    return {};
}

Result<void> MoveRun::flip(Pause&) {
    const Epoch expected{record_.epoch.value + (going_back() ? 1U : 0U)};
    for (;;) {
        CatalogVersion version;
        auto tenant = ports_.journal.flip(record_.id, expected, version);
        if (tenant) {
            ports_.publisher.publish_tenant(*tenant, version);
            return {};
        }
        // Refused, or nobody knows: the row decides, however long it takes to read it. Until then nothing may be
        // undone.
        const auto found = ports_.journal.find_move(record_.id);
        if (found && found->state == (going_back() ? MoveState::flipped_back : MoveState::flipped)) {
            const auto snapshot = ports_.publisher.current();
            if (const auto known = snapshot ? snapshot->find_tenant(record_.request.tenant) : nullptr) {
                auto moved = *known;
                moved.placement = servers_->target_placement();
                moved.epoch = Epoch{expected.value + 1};
                ports_.publisher.publish_tenant(moved, snapshot->version());
            }
            return {};
        }
        if (found && tenant.error().kind == ErrorKind::conflict) return tenant.error();
        if (interrupt_.stopped())
            return fail(ErrorKind::cancelled, "the mover is stopping and the journal doesn't answer");
        ::poll(nullptr, 0, 20);
    }
}

// After the flip back, before the gate opens. What can't be lifted now is lifted by finish_rollback(): until then the
// source refuses writes.
void MoveRun::open_the_source(Pause& pause) {
    auto lifted = lifter_->commit(pause.deadline);
    while (!lifted && !passed(pause.deadline)) {
        lifter_.reset();
        auto target = servers_->target();
        lifted = target ? disable_fence(**target, servers_->facing(Way::there)) : Result<void>{target.error()};
        if (!lifted) ::poll(nullptr, 0, 20);
    }
    if (!lifted) {
        log::warning("move_fence_not_lifted",
                     {{"move", std::to_string(record_.id.value)}, {"reason", lifted.error().message}});
    }
    pause.end_phase("lifted");
}

// Ends an attempt that failed. The journal hears it first: only when it says that this move can't flip any more is the
// fence lifted, and only then is the gate opened. A journal that can't be reached leaves the gate to its own end.
Error MoveRun::back_out(Pause& pause, Error why) {
    const bool hopeless = pause.fenced ? !may_pass(why) : !may_pass(why) && why.kind != ErrorKind::unavailable;
    const auto to = hopeless && !going_back() ? MoveState::aborting : calm_state();
    if (lifter_) lifter_->put_back();
    // Without a fence nothing can go wrong by letting the clients on at once.
    if (!pause.fenced) ports_.gate.release(pause.hold);
    const auto text = why.detail.empty() ? why.message : why.message + " (" + why.detail + ")";
    auto entered = enter(to, text, std::chrono::hours(24));
    if (!entered) {
        if (interrupt_.stopped())
            return fail(ErrorKind::cancelled, "the mover is stopping and the journal doesn't answer");
        return entered.error();
    }
    if (!pause.fenced) return why;
    auto opened = servers_->source();
    auto lifted = opened ? disable_fence(**opened, *servers_) : Result<void>{opened.error()};
    if (lifted) {
        ports_.gate.release(pause.hold);
        return why;
    }
    // The source is away, and its fence with it: undoing goes on until it is lifted, as part of an abort; on the way back
    // whoever connects again does it first.
    log::warning("move_fence_not_lifted",
                 {{"move", std::to_string(record_.id.value)}, {"reason", lifted.error().message}});
    if (going_back()) why.kind = ErrorKind::internal;
    if (to == MoveState::verify) {
        why.kind = ErrorKind::internal;
        auto aborting = enter(MoveState::aborting, text, std::chrono::hours(24));
        if (!aborting) return aborting.error();
    }
    return why;
}

}  // namespace pgporter
