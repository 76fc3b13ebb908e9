#include "admin/mover/mover.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "admin/mover/move_line.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/preflight.hpp"
#include "base/log.hpp"

namespace pgporter {

class Mover::Impl {
  public:
    explicit Impl(Ports ports)
        : ports_(ports), observer_{ports.registry, [this](const char* type, const MoveRecord& record) {
                                       tell(type, record);
                                   }},
          line_({ports.config.mover, ports.journal, ports.registry, [this](MoveId move) { return begin(move); },
                 [this](const MoveRecord& record) { tell("progress", record); }}) {}
    ~Impl() { stop(); }

    struct Entry {
        std::unique_ptr<MoveRun> run;
        std::atomic<bool> ended{false};
        std::unique_ptr<Entry> previous;  // of the same move: its thread ends before this one's begins its work
        std::thread thread;
    };

    Result<PreflightReport> preflight(const MoveRequest& request);
    Result<MoveRecord> start(const MoveRequest& request, std::uint32_t unfinished_max);
    Result<MoveRecord> start(const MoveRequest& request) {
        return start(request, ports_.config.mover.moves_max + ports_.config.mover.queue_max);
    }
    Result<MoveRecord> cancel(MoveId move);
    Result<MoveRecord> cutover(MoveId move);
    Result<MoveRecord> complete(MoveId move, Completion completion);
    Result<MoveRecord> rollback(MoveId move);
    Result<MoveRecord> find(MoveId move);
    Result<std::vector<MoveRecord>> list();
    void recover();
    void stop();

    std::uint64_t subscribe(std::function<void(const MoveEvent&)> subscriber) {
        const std::lock_guard lock(subscribers_mutex_);
        subscribers_.emplace(++subscriptions_made_, std::move(subscriber));
        return subscriptions_made_;
    }
    void unsubscribe(std::uint64_t subscription) {
        const std::lock_guard lock(subscribers_mutex_);
        subscribers_.erase(subscription);
    }

  private:
    struct Ends {
        TenantPtr tenant;
        SnapshotPtr snapshot;
        Placement target;
    };
    [[nodiscard]] Result<Ends> ends_of(const MoveRequest& request) const;
    [[nodiscard]] static std::optional<MoveBlocker> not_movable(const Ends& ends);
    [[nodiscard]] static Result<void> check_kind(const Tenant& tenant, MoveKind kind);
    void launch(MoveRecord record, void (MoveRun::*body)());
    bool begin(MoveId move);
    [[nodiscard]] std::optional<MoveRecord> cancel_running(MoveId move, bool has_begun);
    [[nodiscard]] Result<MoveRecord> cancel_waiting(MoveRecord record);
    void begin_anew(const MoveRecord& record);
    void reap();
    [[nodiscard]] bool wants_attention(const MoveRecord& record);
    void overlay(MoveRecord& record);
    void tell(const char* type, const MoveRecord& record);

    Ports ports_;
    MoveObserver observer_;
    Interrupt preflight_interrupt_;
    std::mutex mutex_;
    std::map<MoveId, std::unique_ptr<Entry>> entries_;
    bool stopping_ = false;
    std::mutex subscribers_mutex_;
    std::map<std::uint64_t, std::function<void(const MoveEvent&)>> subscribers_;
    std::map<MoveId, std::uint64_t> sequences_;
    std::uint64_t subscriptions_made_ = 0;
    MoveLine line_;  // last: its thread uses everything above
};

void Mover::Impl::tell(const char* type, const MoveRecord& record) {
    // Under the lock: events of one move reach everybody in order, and nobody after unsubscribe() returned.
    const std::lock_guard lock(subscribers_mutex_);
    const MoveEvent event{++sequences_[record.id], type, record};
    for (const auto& [number, subscriber] : subscribers_) subscriber(event);
    // A place was taken, or has become free.
    const bool at_rest = !is_at_work(record.state) && record.state != MoveState::planned;
    if (event.type == "state" && (at_rest || record.state == MoveState::preflight)) line_.look();
}

Result<Mover::Impl::Ends> Mover::Impl::ends_of(const MoveRequest& request) const {
    Ends ends;
    ends.snapshot = ports_.publisher.current();
    if (!ends.snapshot) return fail(ErrorKind::unavailable, "the catalog hasn't been read yet");
    ends.tenant = ends.snapshot->find_tenant(request.tenant);
    if (!ends.tenant) return fail(ErrorKind::not_found, "there is no tenant named \"" + request.tenant + "\"");
    if (ends.snapshot->find_cluster(request.cluster) == nullptr) {
        return fail(ErrorKind::not_found, "there is no cluster named \"" + request.cluster + "\"");
    }
    if (request.database.empty() || request.database.size() > 63) {
        return fail(ErrorKind::invalid, "the target database's name must have 1 to 63 bytes");
    }
    const auto& source = ends.tenant->placement;
    if (source.cluster == request.cluster && source.database == request.database) {
        return fail(ErrorKind::invalid, "the tenant lives in that database already");
    }
    // Without a schema of its own it was rows of shared tables, and can only be that again.
    const auto shared = source.schema.empty() ? PlacementKind::rows : PlacementKind::schema;
    const auto kind = request.kind == MoveKind::demote ? shared : PlacementKind::database;
    ends.target = {kind, request.cluster, request.database, source.schema};
    return ends;
}

Result<void> Mover::Impl::check_kind(const Tenant& tenant, MoveKind kind) {
    const bool dedicated = tenant.placement.kind == PlacementKind::database;
    if (dedicated == (kind != MoveKind::promote)) return {};
    if (dedicated) return fail(ErrorKind::conflict, "the tenant is not in a shared database", {}, "relocate it, or demote it");
    return fail(ErrorKind::conflict, "the tenant has no database of its own", {}, "promote it");
}

Result<PreflightReport> Mover::Impl::preflight(const MoveRequest& request) {
    auto ends = ends_of(request);
    if (!ends) return ends.error();
    if (auto blocker = not_movable(*ends)) {
        // The other checks are about schemas: they would say nothing true of this tenant.
        PreflightReport report;
        report.source = ends->tenant->placement;
        report.target = ends->target;
        report.blockers.push_back(*std::move(blocker));
        return report;
    }
    auto servers = MoveServers::find(ports_.config, *ends->snapshot, ends->tenant->placement, ends->target,
                                     preflight_interrupt_, MoveId{});
    if (!servers) return servers.error();
    const bool has_schema = !ends->tenant->placement.schema.empty();
    if (!has_schema) {
        servers->set_rows(shared_rows_of(*ends->snapshot, *ends->tenant, servers->shared_target() ? ends->target : ends->tenant->placement));
        PP_TRY(servers->read_shared_schemas());
    }
    auto report = run_preflight(*servers);
    if (report && !has_schema) {
        check_target_entry(ports_.config, *ends->snapshot, *ends->tenant, ends->target, *report);
    }
    const auto fits = check_kind(*ends->tenant, request.kind);
    if (report && !fits) {
        const bool promotes = request.kind == MoveKind::promote;
        report->blockers.push_back({promotes ? "not_shared" : "not_dedicated", request.tenant,
                                    promotes ? "the tenant has its own database already" : fits.error().message,
                                    promotes ? "nothing is to be moved" : "promote it"});
    }
    return report;
}

// What no move handles yet; each tenant has at most one such reason.
std::optional<MoveBlocker> Mover::Impl::not_movable(const Ends& ends) {
    const Tenant& tenant = *ends.tenant;
    if (tenant.placement.schema.empty()) return std::nullopt;
    const auto& shared = ends.target.kind == PlacementKind::schema ? ends.target : tenant.placement;
    const Database* database = ends.snapshot->find_database(shared.cluster, shared.database);
    if (database == nullptr || (database->isolation == Isolation::app && database->tenant_setting.empty())) return std::nullopt;
    const std::string mode = database->isolation != Isolation::app ? "isolation " + std::string(to_text(database->isolation))
                                                                   : "the tenant_setting " + database->tenant_setting;
    return MoveBlocker{"isolation", database->name,
                       "the shared database has " + mode + ", which a move doesn't carry along yet",
                       "only tenants of databases with isolation app and without a tenant_setting can be moved"};
}

void Mover::Impl::launch(MoveRecord record, void (MoveRun::*body)()) {
    auto entry = std::make_unique<Entry>();
    auto* raw = entry.get();
    const auto id = record.id;
    entry->run = std::make_unique<MoveRun>(ports_, std::move(record), observer_);
    if (body == &MoveRun::run_complete || body == &MoveRun::run_complete_unchecked) entry->run->begin_to_complete();
    if (const auto running = entries_.find(id); running != entries_.end()) entry->previous = std::move(running->second);
    entry->thread = std::thread([this, raw, body, id] {
        if (raw->previous) {
            raw->previous->thread.join();
            raw->previous.reset();
        }
        try {
            (raw->run.get()->*body)();
        } catch (const std::exception& bug) {
            // The move stays in the journal as it is; the next start takes it up.
            log::error("move_thread_failed", {{"move", std::to_string(id.value)}, {"reason", bug.what()}});
        }
        raw->run->disown();
        if (raw->run->was_orphaned() && raw->run->record().state == MoveState::aborted) begin_anew(raw->run->record());
        raw->ended.store(true);
    });
    entries_[id] = std::move(entry);
}

// On the thread of a move that was undone because its instance had ended: what was asked for is still wanted.
void Mover::Impl::begin_anew(const MoveRecord& record) {
    const auto moves = ports_.journal.list_moves(false);
    if (!moves) return;
    std::uint32_t ended_so = 0;
    for (const auto& move : *moves) {
        if (move.request.tenant != record.request.tenant) continue;
        if (move.error != record.error) break;
        ++ended_so;
    }
    if (ended_so > ports_.config.mover.restarts_max) return;
    const auto begun = start(record.request, std::numeric_limits<std::uint32_t>::max());  // it had its place
    if (!begun) {
        log::warning("move_not_begun_anew", {{"move", std::to_string(record.id.value)}, {"reason", begun.error().message}});
        return;
    }
    log::info("move_begun_anew", {{"move", std::to_string(record.id.value)}, {"as", std::to_string(begun->id.value)}});
}

void Mover::Impl::reap() {
    for (auto at = entries_.begin(); at != entries_.end();) {
        auto& entry = *at->second;
        if (!entry.ended.load()) {
            ++at;
            continue;
        }
        entry.thread.join();
        at = entries_.erase(at);
    }
}

Result<MoveRecord> Mover::Impl::start(const MoveRequest& request, std::uint32_t unfinished_max) {
    auto ends = ends_of(request);
    if (!ends) return ends.error();
    PP_TRY(check_kind(*ends->tenant, request.kind));
    if (const auto blocker = not_movable(*ends)) return fail(ErrorKind::conflict, blocker->message, {}, blocker->remedy);
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return fail(ErrorKind::unavailable, "the mover is stopping");
    }
    auto record = ports_.journal.create_move(request, ends->tenant->placement, ends->target, ends->tenant->epoch, unfinished_max);
    if (record) line_.start();
    if (!record && record.error().kind == ErrorKind::limit) line_.count_refusal();
    return record;
}

// The next one in line, on the line's thread; false: it can't begin here now.
bool Mover::Impl::begin(MoveId move) {
    if (!ports_.publisher.current()) return false;
    auto found = ports_.journal.find_move(move);
    const std::lock_guard lock(mutex_);
    if (!found || found->state != MoveState::planned || stopping_) return false;
    reap();
    if (entries_.contains(move)) return false;
    launch(*std::move(found), &MoveRun::run);
    return true;
}

// One that no instance has begun: the journal decides who was first.
Result<MoveRecord> Mover::Impl::cancel_waiting(MoveRecord record) {
    const std::string why = "the move was cancelled";
    PP_TRY(ports_.journal.advance(record.id, MoveState::planned, MoveState::aborting, why));
    PP_TRY(ports_.journal.advance(record.id, MoveState::aborting, MoveState::aborted, "it had not begun"));
    count_finished_move(ports_.registry, "cancelled");
    record.state = MoveState::aborted;
    record.error = why;
    record.place_in_line = 0;
    tell("state", record);
    return record;
}

std::optional<MoveRecord> Mover::Impl::cancel_running(MoveId move, bool has_begun) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(move);
    if (entry == entries_.end() || entry->second->ended.load()) return std::nullopt;
    auto record = entry->second->run->record();
    if (record.state == MoveState::planned && !has_begun) return std::nullopt;
    if (!is_before_flip(record.state) && record.state != MoveState::aborting) return std::nullopt;
    entry->second->run->cancel();
    return record;
}

Result<MoveRecord> Mover::Impl::cancel(MoveId move) {
    if (auto told = cancel_running(move, false)) return *std::move(told);
    auto found = find(move);
    if (found && found->state == MoveState::planned) {
        auto cancelled = cancel_waiting(*found);
        if (cancelled || cancelled.error().kind != ErrorKind::conflict) return cancelled;
        // It has just begun: here, or at another instance.
        if (auto told = cancel_running(move, true)) return *std::move(told);
        found = find(move);
    }
    if (!found) return found.error();
    if (is_finished(found->state)) return fail(ErrorKind::conflict, "the move has ended");
    if (!is_before_flip(found->state))
        return fail(ErrorKind::conflict, "the tenant has been switched to its new database: this can't be cancelled");
    return fail(ErrorKind::conflict, "the move isn't run by this instance");
}

Result<MoveRecord> Mover::Impl::cutover(MoveId move) {
    {
        const std::lock_guard lock(mutex_);
        const auto entry = entries_.find(move);
        if (entry != entries_.end() && !entry->second->ended.load()) {
            auto record = entry->second->run->record();
            // One that isn't known to have begun may be no more: the journal knows.
            if (is_before_flip(record.state) && record.state != MoveState::aborting && record.state != MoveState::planned) {
                entry->second->run->request_cutover();
                return record;
            }
        }
    }
    auto found = find(move);
    if (!found) return found.error();
    return fail(ErrorKind::conflict, "the move isn't waiting for a cutover here");
}

Result<MoveRecord> Mover::Impl::complete(MoveId move, Completion completion) {
    const std::lock_guard lock(mutex_);
    if (stopping_) return fail(ErrorKind::unavailable, "the mover is stopping");
    reap();
    auto found = ports_.journal.find_move(move);
    if (!found) return found.error();
    if (found->state != MoveState::opened && found->state != MoveState::reversing)
        return fail(ErrorKind::conflict, "only a move in state opened or reversing can be completed");
    const auto running = entries_.find(move);
    if (running != entries_.end()) {
        // The thread that opened it is on its last lines and is waited for; one that completes it already is enough.
        if (running->second->run->completes()) return *found;
        running->second->run->leave_way_back();
    }
    const bool is_ours = running != entries_.end() && running->second->run->is_owner();
    if (!is_ours && found->state == MoveState::reversing) {
        // Where another instance follows the way back, it leaves when it reads this.
        PP_TRY(ports_.journal.advance(move, MoveState::reversing, MoveState::opened, "the move is being completed"));
    }
    found->progress.note.clear();  // it may say what came of an earlier request
    launch(*found, completion == Completion::checked ? &MoveRun::run_complete : &MoveRun::run_complete_unchecked);
    return *found;
}

Result<MoveRecord> Mover::Impl::rollback(MoveId move) {
    {
        const std::lock_guard lock(mutex_);
        const auto entry = entries_.find(move);
        const bool is_ours = entry != entries_.end() && entry->second->run->is_owner();
        if (is_ours && !entry->second->ended.load() && !entry->second->run->completes()) {
            auto record = entry->second->run->record();
            const bool may_ask = record.state == MoveState::reversing ||
                                 (record.state == MoveState::opened && record.rollback_refused.empty());
            if (may_ask) entry->second->run->request_rollback();
            if (may_ask || record.state == MoveState::rolling_back) return record;
        }
    }
    auto found = find(move);
    if (!found) return found.error();
    if (is_finished(found->state)) return fail(ErrorKind::conflict, "the move has ended");
    if (is_before_flip(found->state))
        return fail(ErrorKind::conflict, "the tenant hasn't been switched yet", {}, "cancel the move instead");
    if (found->state == MoveState::opened && !found->rollback_refused.empty())
        return fail(ErrorKind::conflict, "this move can't be rolled back: " + found->rollback_refused);
    if (found->state == MoveState::rolling_back) return *found;
    if (found->state == MoveState::reversing) {
        // The instance that follows the way back reads it there; where there is none, the next one does.
        PP_TRY(ports_.journal.advance(move, MoveState::reversing, MoveState::rolling_back, "asked for at another instance"));
        found->state = MoveState::rolling_back;
        return *found;
    }
    return fail(ErrorKind::conflict, "the move isn't ready for a rollback here: it is " + std::string(to_text(found->state)), {},
                "ask again in a moment, or the instance that runs the move");
}

void Mover::Impl::overlay(MoveRecord& record) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(record.id);
    if (entry == entries_.end()) return;
    const auto live = entry->second->run->record();
    record.progress = live.progress;
    if (record.rollback_refused.empty()) record.rollback_refused = live.rollback_refused;
    if (record.error.empty()) record.error = live.error;
}

Result<MoveRecord> Mover::Impl::find(MoveId move) {
    auto record = ports_.journal.find_move(move);
    if (record) overlay(*record);
    return record;
}

Result<std::vector<MoveRecord>> Mover::Impl::list() {
    auto records = ports_.journal.list_moves(false);
    if (!records) return records;
    for (auto& record : *records) overlay(record);
    return records;
}

// One that lost its way back waits for an operator, in no thread, when nothing is left of it.
bool Mover::Impl::wants_attention(const MoveRecord& record) {
    if (record.state != MoveState::opened || record.rollback_refused.empty()) return true;
    const auto records = ports_.journal.open_cleanups(record.id);
    if (!records) return false;
    return std::any_of(records->begin(), records->end(), [](const CleanupRecord& cleanup) {
        return cleanup.when == CleanupWhen::always && way_of_artefact(cleanup.name) == Way::back;
    });
}

void Mover::Impl::recover() {
    auto records = ports_.journal.list_moves(true);
    if (!records) {
        log::error("moves_not_recovered", {{"reason", records.error().message}});
        return;
    }
    const std::lock_guard lock(mutex_);
    if (!stopping_) reap();
    for (auto& record : *records) {
        // Who waits in line had not begun: nothing is to be undone.
        if (stopping_ || entries_.contains(record.id) || record.state == MoveState::planned) continue;
        if (!wants_attention(record)) continue;
        log::info("move_taken_up",
                  {{"move", std::to_string(record.id.value)}, {"state", std::string(to_text(record.state))}});
        launch(record, &MoveRun::recover);
    }
    if (!stopping_) line_.start();
}

void Mover::Impl::stop() {
    preflight_interrupt_.stop();
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    line_.stop();
    std::map<MoveId, std::unique_ptr<Entry>> entries;
    {
        const std::lock_guard lock(mutex_);
        entries.swap(entries_);
    }
    for (auto& [id, entry] : entries) entry->run->stop();
    for (auto& [id, entry] : entries) entry->thread.join();
}

Mover::Mover(Ports ports) : impl_(std::make_unique<Impl>(ports)) {}
Mover::~Mover() = default;
Result<PreflightReport> Mover::preflight(const MoveRequest& request) {
    return impl_->preflight(request);
}
Result<MoveRecord> Mover::start(const MoveRequest& request) {
    return impl_->start(request);
}
Result<MoveRecord> Mover::cancel(MoveId move) {
    return impl_->cancel(move);
}
Result<MoveRecord> Mover::cutover(MoveId move) {
    return impl_->cutover(move);
}
Result<MoveRecord> Mover::complete(MoveId move, Completion completion) {
    return impl_->complete(move, completion);
}
Result<MoveRecord> Mover::rollback(MoveId move) {
    return impl_->rollback(move);
}
Result<MoveRecord> Mover::find(MoveId move) {
    return impl_->find(move);
}
Result<std::vector<MoveRecord>> Mover::list() {
    return impl_->list();
}
void Mover::recover() {
    impl_->recover();
}
std::uint64_t Mover::subscribe(std::function<void(const MoveEvent&)> subscriber) {
    return impl_->subscribe(std::move(subscriber));
}
void Mover::unsubscribe(std::uint64_t subscription) {
    impl_->unsubscribe(subscription);
}
void Mover::stop() {
    impl_->stop();
}

}  // namespace pgporter
