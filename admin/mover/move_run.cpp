#include "admin/mover/move_run.hpp"

#include "admin/mover/cleanup.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds save_every{500};
constexpr std::chrono::milliseconds save_quiet_every{5'000};  // while only the way back is followed
constexpr std::chrono::milliseconds retry_max{10'000};
constexpr std::chrono::seconds recover_for{5};

metrics::Gauge& state_gauge(metrics::Registry& registry, MoveState state) {
    return registry.gauge("pgporter_moves", "Moves that this instance works on, by state.",
                          {{"state", std::string(to_text(state))}});
}

bool kept_until_complete(const CleanupRecord& record) {
    return record.kind == ArtefactKind::fence_triggers || record.kind == ArtefactKind::fence_function ||
           way_of_artefact(record.name) == Way::back;
}

}  // namespace

std::string utf8_only(std::string_view text) {
    std::string clean;
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        const std::size_t length = lead < 0x80                   ? 1
                                   : lead >= 0xF0 && lead < 0xF5 ? 4
                                   : lead >= 0xE0 && lead < 0xF0 ? 3
                                   : lead >= 0xC2 && lead < 0xE0 ? 2
                                                                 : 0;
        bool whole = length > 0 && i + length <= text.size() && lead != 0;
        for (std::size_t k = 1; whole && k < length; ++k)
            whole = (static_cast<unsigned char>(text[i + k]) & 0xC0U) == 0x80U;
        if (whole) {
            clean += text.substr(i, length);
            i += length;
        } else {
            clean += '?';
            ++i;
        }
    }
    return clean;
}

MoveRun::MoveRun(Mover::Ports ports, MoveRecord record, MoveObserver& observer)
    : ports_(ports), observer_(&observer), record_(std::move(record)) {
    auto& registry = observer.registry;
    copied_.rows_total = &registry.counter("pgporter_move_rows_copied_total", "Rows that moves have copied.");
    copied_.bytes_total =
        &registry.counter("pgporter_move_bytes_copied_total", "Bytes of rows that moves have copied.");
    followed_.changes_total =
        &registry.counter("pgporter_move_changes_applied_total", "Row changes of the stream that moves have applied.");
    state_gauge(registry, record_.state).add(1);
}

MoveRun::~MoveRun() {
    if (!is_finished(record_.state)) state_gauge(observer_->registry, record_.state).add(-1);
}

MoveRecord MoveRun::record() const {
    const std::lock_guard lock(mutex_);
    return record_;
}

void MoveRun::request_cutover() {
    cutover_requested_.store(true);
    interrupt_.nudge();
}

void MoveRun::request_rollback() {
    note("");
    rollback_requested_.store(true);
    interrupt_.nudge();
}

void MoveRun::leave_way_back() {
    leaving_.store(true);
    interrupt_.nudge();
}

void count_finished_move(metrics::Registry& registry, const char* outcome) {
    registry.counter("pgporter_moves_finished_total", "Moves that ended, by outcome.", {{"outcome", outcome}}).inc();
}

void MoveRun::count_outcome(const char* outcome) {
    count_finished_move(observer_->registry, outcome);
}

void MoveRun::set_state(MoveState to) {
    MoveRecord copy;
    {
        const std::lock_guard lock(mutex_);
        state_gauge(observer_->registry, record_.state).add(-1);
        record_.state = to;
        look_ahead();
        copy = record_;
    }
    // A finished move is counted by its outcome; the gauge shows those that still go on.
    if (!is_finished(to)) state_gauge(observer_->registry, to).add(1);
    log::info("move_state", {{"move", std::to_string(copy.id.value)},
                             {"tenant", copy.request.tenant},
                             {"state", std::string(to_text(to))}});
    observer_->event("state", copy);
}

Result<void> MoveRun::enter(MoveState to, std::string_view text, std::chrono::milliseconds patience) {
    const auto deadline = after(patience);
    auto from = record_.state;
    for (;;) {
        if (!keep_owned()) return interrupt_.error();
        auto advanced = ports_.journal.advance(record_.id, from, to, utf8_only(text));
        if (advanced) break;
        // The answer of an earlier try may have been lost: the journal knows.
        const auto found = ports_.journal.find_move(record_.id);
        const bool is_there = found && found->state == to;
        if (is_there && to != MoveState::rolling_back) break;
        // Or another instance was asked for the rollback: only who has begun it may flip back, so it begins here once more. Should that fail, the next
        // pass finds it so again.
        if (is_there) static_cast<void>(ports_.journal.advance(record_.id, to, MoveState::reversing, "the rollback begins anew"));
        const bool lagging = is_there || (found && found->state != from && may_follow(found->state, to));
        if (lagging) from = is_there ? MoveState::reversing : found->state;
        const bool hopeless = advanced.error().kind == ErrorKind::conflict && !lagging;
        if (hopeless || passed(deadline) || interrupt_.stopped()) return advanced.error();
        ::poll(nullptr, 0, 50);
    }
    set_state(to);
    return {};
}

void MoveRun::note(std::string text) {
    const std::lock_guard lock(mutex_);
    record_.progress.note = utf8_only(text);
}

void MoveRun::tick() {
    {
        const std::lock_guard lock(mutex_);
        auto& progress = record_.progress;
        progress.rows_copied = copied_.rows.load(std::memory_order_relaxed);
        progress.bytes_copied = copied_.bytes.load(std::memory_order_relaxed);
        progress.changes_applied = followed_.changes;
        progress.transactions_applied = followed_.transactions;
        progress.lag_bytes = followed_.lag_bytes;
        const auto slowed = throttle_ ? throttle_->state() : CopyThrottle::State{};
        progress.throttled = slowed.throttled;
        progress.throttled_by = slowed.by;
        look_ahead();
    }
    const auto every = record_.state == MoveState::reversing ? save_quiet_every : save_every;
    if (in_pause_ || std::chrono::steady_clock::now() - saved_at_ < every) return;
    save_progress();
}

void MoveRun::save_progress() {
    saved_at_ = std::chrono::steady_clock::now();
    if (!keep_owned()) return;
    const auto copy = record();
    const auto saved = ports_.journal.save_progress(copy.id, copy.progress);
    if (!saved)
        log::warning("move_progress_not_saved",
                     {{"move", std::to_string(copy.id.value)}, {"reason", saved.error().message}});
    observer_->event("progress", copy);
}

Result<void> MoveRun::record_artefact(ArtefactKind kind, CleanupWhen when, const Placement& place,
                                      const std::string& name) {
    CleanupRecord artefact;
    artefact.move = record_.id;
    artefact.kind = kind;
    artefact.when = when;
    artefact.cluster = place.cluster;
    artefact.database = place.database;
    artefact.name = name;
    auto added = ports_.journal.add_cleanup(artefact);
    if (!added) return added.error();
    return {};
}

bool MoveRun::keep_owned() {
    if (!ownership_ || ownership_->is_held()) return true;
    const auto renewed = ownership_->renew();
    // While the catalog is away nobody can take the move over either: whatever needs the journal waits for it by itself.
    if (renewed || renewed.error().kind != ErrorKind::conflict) return true;
    log::warning("move_taken_over", {{"move", std::to_string(record_.id.value)}, {"reason", renewed.error().message}});
    is_owner_.store(false);
    interrupt_.stop();
    return false;
}

bool MoveRun::own(Deadline until) {
    std::chrono::milliseconds pause{200};
    for (;;) {
        auto owned = ports_.journal.own_move(record_.id);
        if (owned) {
            ownership_ = std::move(*owned);
            is_owner_.store(true);
            return true;
        }
        const auto found = ports_.journal.find_move(record_.id);
        if ((found && is_finished(found->state)) || passed(until)) return false;
        log::warning("move_not_owned", {{"move", std::to_string(record_.id.value)}, {"reason", owned.error().message}});
        if (!interrupt_.sleep(pause)) return false;
        pause = std::min(pause * 2, retry_max);
    }
}

Result<void> MoveRun::find_servers() {
    const auto snapshot = ports_.publisher.current();
    if (!snapshot) return fail(ErrorKind::unavailable, "the catalog hasn't been read yet");
    auto servers = MoveServers::find(ports_.config, *snapshot, record_.source, record_.target, interrupt_, record_.id);
    if (!servers) return servers.error();
    servers_.emplace(std::move(*servers));
    if (!record_.source.schema.empty()) return {};
    if (const auto tenant = snapshot->find_tenant(record_.request.tenant)) {
        servers_->set_rows(shared_rows_of(*snapshot, *tenant, record_.target.kind == PlacementKind::rows ? record_.target : record_.source));
    }
    return {};
}

bool MoveRun::is_admitted() {
    auto owned = ports_.journal.own_move(record_.id);
    if (!owned) return false;  // another instance is about to begin it, or the catalog is away
    ownership_ = std::move(*owned);
    is_owner_.store(true);
    const auto& mover = ports_.config.mover;
    auto admitted = ports_.journal.admit(record_.id, {mover.moves_max, mover.moves_per_source_max});
    while (!admitted) {  // the answer may have been lost: the journal knows, and while it is ours nobody else changes it
        log::warning("move_not_begun", {{"move", std::to_string(record_.id.value)}, {"reason", admitted.error().message}});
        const auto found = ports_.journal.find_move(record_.id);
        if (found) admitted = Result<bool>(found->state == MoveState::preflight);
        if (!found && !interrupt_.sleep(std::chrono::milliseconds(200))) return false;
    }
    if (!*admitted) return false;
    {
        const std::lock_guard lock(mutex_);
        record_.place_in_line = 0;
    }
    set_state(MoveState::preflight);
    return true;
}

void MoveRun::run() {
    if (!is_admitted()) return;
    end_walk(walk());
}

void MoveRun::end_walk(const Result<void>& walked) {
    if (walked) return finish();
    // A stopped move stays as it is in the journal: the next process takes it up. An operator's cancel is an abort.
    if (interrupt_.stopped()) return close_sessions();
    abort(judge_end(walked.error()));
}

void MoveRun::recover() {
    // Its owner may live after all: then it is not for us.
    if (!own(after(recover_for))) return;
    // Time has passed since it was listed.
    auto found = ports_.journal.find_move(record_.id);
    if (found && found->state != record_.state) set_state(found->state);
    if (is_finished(record_.state)) return;
    if (record_.state == MoveState::flipped) return finish();
    if (!is_before_flip(record_.state) && record_.state != MoveState::aborting) {
        {
            const std::lock_guard lock(mutex_);
            record_.rollback_refused = found ? found->rollback_refused : record_.rollback_refused;
        }
        // What was asked for is still wanted.
        rollback_requested_.store(record_.state == MoveState::rolling_back);
        return record_.rollback_refused.empty() ? follow_way_back() : tidy_opened();
    }
    if (record_.state == MoveState::copy || record_.state == MoveState::index) {
        const auto taken_up = take_up_copy();
        if (taken_up) {
            log::info("move_copy_taken_up", {{"move", std::to_string(record_.id.value)}, {"tenant", record_.request.tenant}});
            watch_neighbours();
            learn_neighbours();
            return end_walk(walk_from_copy());
        }
        if (interrupt_.stopped()) return close_sessions();
        log::info("move_copy_left", {{"move", std::to_string(record_.id.value)}, {"reason", taken_up.error().message}});
    }
    orphaned_ = record_.state != MoveState::aborting && !interrupt_.cancelled();
    abort(fail(ErrorKind::cancelled, record_.error.empty() ? "the process that ran the move ended" : record_.error));
}

Result<void> MoveRun::walk() {
    PP_TRY(find_servers());
    watch_neighbours();
    PP_TRY(step_preflight());
    learn_neighbours();
    PP_TRY(step_schema());
    PP_TRY(step_gate());
    PP_TRY(step_slot());
    return walk_from_copy();
}

Result<void> MoveRun::walk_from_copy() {
    guard_ = std::make_unique<MoveGuard>(*servers_, interrupt_, held_snapshots_, observer_->registry,
                                         [this](const GuardReport& report) { on_guard_report(report); });
    PP_TRY(step_copy());
    PP_TRY(step_index());
    PP_TRY(step_catchup());
    return step_verify();
}

void MoveRun::close_sessions() {
    publication_watch_.reset();
    guard_.reset();
    throttle_.reset();
    fence_.reset();
    lifter_.reset();
    verifier_.reset();
    follower_.reset();
    snapshot_keeper_.reset();
    source_.reset();
    definitions_.reset();
}

void MoveRun::abort(const Error& why) {
    interrupt_.shield(Shield::cancel);
    close_sessions();
    const auto text = why.detail.empty() ? why.message : why.message + " (" + why.detail + ")";
    {
        const std::lock_guard lock(mutex_);
        record_.error = utf8_only(text);
    }
    log::warning(
        "move_aborting",
        {{"move", std::to_string(record_.id.value)}, {"tenant", record_.request.tenant}, {"reason", utf8_only(text)}});
    std::chrono::milliseconds pause{100};
    for (;;) {
        if (!keep_owned()) return;
        auto done = [&]() -> Result<void> {
            if (record_.state != MoveState::aborting) PP_TRY(enter(MoveState::aborting, text));
            if (!servers_) PP_TRY(find_servers());
            PP_TRY(undo_records(ports_.journal, *servers_, [](const CleanupRecord&) { return true; }));
            return enter(MoveState::aborted, "nothing is left of it");
        }();
        if (done) break;
        // The flip has happened after all: the journal is the truth, and from there it only goes forward.
        const auto found = ports_.journal.find_move(record_.id);
        if (found && found->state == MoveState::flipped) {
            set_state(found->state);
            return finish();
        }
        if (found && is_finished(found->state)) {
            set_state(found->state);
            return;
        }
        note("undoing: " + done.error().message);
        log::warning("move_undo_failed",
                     {{"move", std::to_string(record_.id.value)}, {"reason", utf8_only(done.error().message)}});
        if (!interrupt_.sleep(pause)) return;
        pause = std::min(pause * 2, retry_max);
    }
    count_outcome(interrupt_.cancelled() && !ended_by_guard_ ? "cancelled" : "aborted");
}

void MoveRun::finish() {
    interrupt_.shield(Shield::cancel);
    close_sessions();
    std::chrono::milliseconds pause{100};
    for (;;) {
        if (!keep_owned()) return;
        auto done = [&]() -> Result<void> {
            if (!servers_) PP_TRY(find_servers());
            PP_TRY(undo_records(ports_.journal, *servers_, [](const CleanupRecord& record) {
                return record.when == CleanupWhen::always && !kept_until_complete(record);
            }));
            if (servers_->shared_target()) PP_TRY(welcome_rows());
            auto way_back = has_way_back();
            if (!way_back) return way_back.error();
            std::string refused;
            if (!*way_back) refused = rollback_refused_.empty() ? "nothing was prepared for it" : rollback_refused_;
            {
                const std::lock_guard lock(mutex_);
                record_.rollback_refused = utf8_only(refused);
            }
            return enter(MoveState::opened, refused);
        }();
        if (done) break;
        note("tidying up after the flip: " + done.error().message);
        log::warning("move_tidy_failed",
                     {{"move", std::to_string(record_.id.value)}, {"reason", utf8_only(done.error().message)}});
        if (!interrupt_.sleep(pause)) return;
        pause = std::min(pause * 2, retry_max);
    }
    note("");
    save_progress();
    count_outcome("flipped");
    if (record_.rollback_refused.empty()) follow_way_back();
}

}  // namespace pgporter
