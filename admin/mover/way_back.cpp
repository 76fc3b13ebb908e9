// The way back: prepared before the flip (`reverse_slot`), followed from `opened` on (`reversing`), walked by a rollback
// (`rolling_back`, with the cutover of cutover.cpp facing back) or given up with its reason. Everything it needs is in
// the journal and on the servers: after whatever broke, turn_round() begins again from there.
//
// The slot on the target is older than the flip; what the move itself applied there is told from what clients wrote by
// the mark that begins each of its transactions (move_names.hpp).
#include <algorithm>

#include "admin/mover/apply.hpp"
#include "admin/mover/cleanup.hpp"
#include "admin/mover/move_names.hpp"
#include "admin/mover/move_run.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::seconds slot_timeout{10};
constexpr std::chrono::milliseconds listen_every{50};
constexpr std::chrono::seconds check_every{2};
constexpr std::chrono::milliseconds retry_max{10'000};

// A change that can't be applied as it is won't be next time either; a lock or a serialisation conflict will. What a
// table isn't any more (class 42) is the same, a missing right isn't.
// What a table that others write to doesn't take (class 23) neither.
bool is_final(const Error& error, bool shared_target) {
    if (shared_target && error.sqlstate.starts_with("23")) return true;
    if (error.kind == ErrorKind::conflict) return error.sqlstate.empty();
    return error.sqlstate.starts_with("42") && error.sqlstate != "42501";
}

// Why the slot can't be followed any more, or mustn't be kept; empty when it can.
Result<std::string> look_at_slot(ServerSession& source, const MoveServers& servers) {
    auto rows = source.exec(
        "SELECT wal_status, (pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) / 1048576)::bigint FROM "
        "pg_replication_slots WHERE slot_name = $1",
        {servers.artefact()});
    if (!rows) return rows.error();
    if (rows->empty()) return std::string("the target server no longer has the replication slot ") + servers.artefact();
    if (rows->text(0, 0) == "lost") {
        return std::string("the target server has dropped the log that the source still needed (max_slot_wal_keep_size)");
    }
    const auto bound = servers.config().mover.way_back_wal_mib_max;
    if (!rows->is_null(0, 1) && rows->number(0, 1) > static_cast<std::int64_t>(bound)) {
        return "the target server had to keep more than mover.way_back_wal_mib_max (" + std::to_string(bound) +
               " MiB) of its log for it";
    }
    return std::string();
}

// What somebody has put into the tenant's own database beside its schemas: no stream carries it. Empty: nothing.
Result<std::string> left_behind(ServerSession& source, const MoveServers& servers) {
    auto rows = source.exec(R"sql(
SELECT string_agg(what, ', ') FROM (
  (SELECT c.oid::regclass::text AS what FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'm', 'S', 'v', 'f') AND NOT n.nspname = ANY ($1::text[]) AND n.nspname <> 'information_schema'
     AND n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT LIKE 'pgporter\_%'
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i', 'a'))
   ORDER BY 1 LIMIT 5)
  UNION ALL SELECT 'large objects' WHERE EXISTS (SELECT FROM pg_largeobject_metadata)) AS found)sql",
                            {servers.schemas().as_array()});
    if (!rows) return rows.error();
    return rows->is_null(0, 0) ? std::string() : rows->string(0, 0);
}

// The way back of a demote: the tenant's own database has global tables of its own, which stay as they are.
Result<void> keep_tenants_tables(ServerSession& shared, const MoveServers& servers, std::vector<SourceTable>& tables) {
    PP_TRY(mark_shared_tables(shared, *servers.rows(), tables));
    std::erase_if(tables, [](const SourceTable& table) { return !table.tenant_column; });
    return {};
}

}  // namespace

Result<void> MoveRun::step_reverse_slot() {
    if (record_.state == MoveState::verify) PP_TRY(enter(MoveState::reverse_slot, "preparing the way back"));
    if (way_back_made_ || !rollback_refused_.empty()) return {};
    // Where both are one server, a slot waits for our own transaction: it must not be open meanwhile.
    PP_TRY(follower_->come_to_rest());
    auto made = undo_way_back();
    if (made) made = make_way_back();
    way_back_made_ = made.has_value();
    if (made) return {};
    auto error = made.error();
    error.message = "the way back couldn't be prepared: " + error.message;
    // Not worth the copy: an operator may remedy it and ask for the cutover again.
    if (error.kind != ErrorKind::unavailable && error.kind != ErrorKind::cancelled) error.kind = ErrorKind::limit;
    return error;
}

Result<void> MoveRun::make_way_back() {
    auto back = servers_->facing(Way::back);
    PP_TRY(back.read_shared_schemas());
    auto opened = servers_->target();
    if (!opened) return opened.error();
    auto& target = **opened;
    auto query = signature_query(target, back.schemas());
    if (!query) return query.error();
    auto signature = target.exec(*query);
    if (!signature) return signature.error();
    auto tables = read_tables(target, back.schemas());
    if (!tables) return tables.error();
    if (back.shared_source()) PP_TRY(keep_tenants_tables(target, back, *tables));

    PP_TRY(record_artefact(ArtefactKind::fence_function, CleanupWhen::always, record_.target, back.artefact()));
    PP_TRY(back.shared_source() ? create_row_fence(target, back) : create_fence_function(target, back));
    PP_TRY(record_artefact(ArtefactKind::fence_triggers, CleanupWhen::always, record_.target, back.fence()));
    if (!back.shared_source()) PP_TRY(install_fence_triggers(target, back, *tables));
    PP_TRY(record_artefact(ArtefactKind::publication, CleanupWhen::always, record_.target, back.artefact()));
    PP_TRY(publish_unless_harmful(target, back, publication_statement(back.artefact(), *tables)));
    PP_TRY(record_artefact(ArtefactKind::progress_table, CleanupWhen::always, record_.source, back.artefact()));
    PP_TRY(create_progress_table(*source_, back, signature->string(0, 0)));
    if (back.shared_target()) PP_TRY(prepare_shared_target(back, *source_, target));
    PP_TRY(record_artefact(ArtefactKind::replication_slot, CleanupWhen::always, record_.target, back.artefact()));
    auto stream = back.replication();
    if (!stream) return stream.error();
    auto slot = stream->create_slot(back.artefact(), false, after(slot_timeout));
    if (slot) return {};
    auto error = slot.error();
    if (error.kind == ErrorKind::timeout)
        error.message = "its slot waits for transactions on the target's server: " + transactions_in_the_way(target);
    return error;
}

Result<void> MoveRun::undo_way_back() {
    way_back_made_ = false;
    if (record_.target.kind != PlacementKind::rows) id_blocks_.clear();  // else they are of the way there
    auto records = ports_.journal.open_cleanups(record_.id);
    if (!records) return records.error();
    for (const auto& record : *records) {
        if (record.when != CleanupWhen::always || way_of_artefact(record.name) != Way::back) continue;
        PP_TRY(undo(record, *servers_));
        PP_TRY(ports_.journal.cleanup_done(record.id));
    }
    return {};
}

Result<bool> MoveRun::has_way_back() {
    auto records = ports_.journal.open_cleanups(record_.id);
    if (!records) return records.error();
    for (const auto& record : *records) {
        if (record.kind == ArtefactKind::replication_slot && way_of_artefact(record.name) == Way::back) return true;
    }
    return false;
}

void MoveRun::follow_way_back() {
    interrupt_.shield(Shield::cancel);
    std::chrono::milliseconds pause{100};
    for (;;) {
        const auto began = std::chrono::steady_clock::now();
        auto done = walk_back();
        close_sessions();
        if (done || interrupt_.stopped() || leaving_.load() || !keep_owned()) return;
        const bool agreed = agree_with_journal();
        if (is_finished(record_.state)) return;
        if (record_.state == MoveState::opened && !record_.rollback_refused.empty()) return tidy_opened();
        const bool is_back = record_.state == MoveState::flipped_back;
        if (!is_back) {
            // A server that is away doesn't say; what it will say when it is there again is early enough.
            auto lost = way_back_lost();
            if ((!lost || lost->empty()) && agreed && is_final(done.error(), servers_ && servers_->shared_target())) lost = done.error().message;
            if (lost && !lost->empty() && give_up_way_back(*lost)) return tidy_opened();
        }
        note((is_back ? "tidying up after the rollback: " : "following the way back: ") + done.error().message);
        save_progress();
        log::warning("move_way_back_interrupted", {{"move", std::to_string(record_.id.value)},
                                                   {"reason", utf8_only(done.error().message)}});
        if (std::chrono::steady_clock::now() - began > retry_max) pause = std::chrono::milliseconds(100);
        if (!interrupt_.sleep(pause)) return;
        pause = std::min(pause * 2, retry_max);
    }
}

// Another instance may have been asked for something, or has gone on with the move: the journal is the truth. False: it
// says something else than we thought, which counts from now on, or nothing.
bool MoveRun::agree_with_journal() {
    const auto found = ports_.journal.find_move(record_.id);
    if (!found) return false;
    if (found->state == record_.state) return true;
    if (found->state == MoveState::rolling_back) rollback_requested_.store(true);
    {
        const std::lock_guard lock(mutex_);
        record_.rollback_refused = found->rollback_refused;
    }
    set_state(found->state);
    return false;
}

// Until it is left (ok), the tenant is back (ok), or something broke.
Result<void> MoveRun::walk_back() {
    if (record_.state == MoveState::flipped_back) return finish_rollback();
    PP_TRY(turn_round());
    for (;;) {
        PP_TRY(follow_until_asked());
        if (leaving_.load()) return {};
        rollback_requested_.store(false);
        failed_request_.clear();
        const auto done = roll_back();
        if (done) return finish_rollback();
        if (interrupt_.stopped()) return done;
        const auto& error = done.error();
        const auto why = error.detail.empty() ? error.message : error.message + " (" + error.detail + ")";
        if (record_.state == MoveState::rolling_back) PP_TRY(enter(MoveState::reversing, why));
        log::warning("move_rollback_failed",
                     {{"move", std::to_string(record_.id.value)}, {"reason", utf8_only(why)}});
        const auto failed = std::string(rollback_failed_note) + why;
        // Servers that were away come back; whatever else it was, the operator asks again.
        if (error.kind == ErrorKind::unavailable) {
            rollback_requested_.store(true);
            return fail(ErrorKind::unavailable, failed);
        }
        failed_request_ = failed;
        note(failed);
        save_progress();
        observer_->event("progress", record());
        if (error.kind == ErrorKind::internal) return fail(ErrorKind::unavailable, failed);
        PP_TRY(follower_->connect());
    }
}

Result<void> MoveRun::turn_round() {
    close_sessions();
    if (!servers_) PP_TRY(find_servers());
    auto facing = servers_->facing(Way::back);
    servers_.emplace(std::move(facing));
    // What a marker says must not be what one said before a restart.
    markers_ = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch() / std::chrono::microseconds(1));
    // One after the other: both may be the same server.
    for (auto open : {&MoveServers::source, &MoveServers::target}) {
        auto session = ((*servers_).*open)();
        if (!session) return session.error();
        PP_TRY(end_other_sessions(**session, *servers_));
    }
    auto source = servers_->source();
    if (!source) return source.error();
    auto target = servers_->target();
    if (!target) return target.error();
    // A rollback that broke off, or was asked for at another instance: nobody flips from here on, and then the tenant's
    // writes go on.
    if (record_.state == MoveState::rolling_back) PP_TRY(enter(MoveState::reversing, "the rollback begins anew"));
    PP_TRY(disable_fence(**source, *servers_));
    auto lost = look_at_slot(**source, *servers_);
    if (!lost) return lost.error();
    if (!lost->empty()) return fail(ErrorKind::conflict, *lost);

    if (servers_->rows() != nullptr) PP_TRY(recall_shared_rows(servers_->shared_target() ? **target : **source));
    auto signature = read_progress_signature(**target, *servers_);
    if (!signature) return signature.error();
    signature_ = std::move(*signature);
    auto query = signature_query(**source, servers_->schemas());
    if (!query) return query.error();
    signature_query_ = std::move(*query);
    auto tables = read_tables(**source, servers_->schemas());
    if (!tables) return tables.error();
    tables_ = std::move(*tables);
    if (servers_->shared_target()) {
        PP_TRY(mark_tables_into_shared(**source));
        PP_TRY(id_blocks_.load(**target, **source, *servers_));
    }
    if (servers_->shared_source()) PP_TRY(keep_tenants_tables(**source, *servers_, tables_));
    rewritten_.clear();
    auto path = operator_search_path(**source);
    if (!path) return path.error();
    source_ = std::move(*source);
    follower_.emplace(*servers_, tables_, std::move(*path), followed_);
    follower_->set_tick([this] { tick(); });
    if (servers_->shared_target()) follower_->set_id_blocks(&id_blocks_);
    PP_TRY(follower_->connect());
    if (servers_->shared_source()) {
        auto watch = PublicationWatch::start(*servers_, interrupt_);
        if (!watch) return watch.error();
        publication_watch_ = std::move(*watch);
    }
    note(failed_request_);
    definition_changed_ = false;
    PP_TRY(look_at_definition());
    if (record_.state == MoveState::opened) PP_TRY(enter(MoveState::reversing, "changes go back to the source, too"));
    return {};
}

Result<void> MoveRun::follow_until_asked() {
    auto checked_at = std::chrono::steady_clock::now();
    while (!leaving_.load() && !rollback_requested_.load()) {
        PP_TRY(follower_->follow_for(listen_every));
        const auto now = std::chrono::steady_clock::now();
        if (now - checked_at < check_every) continue;
        checked_at = now;
        if (!keep_owned()) return interrupt_.error();
        auto lost = look_at_slot(*source_, *servers_);
        if (!lost) return lost.error();
        if (!lost->empty()) return fail(ErrorKind::conflict, *lost);
        PP_TRY(look_at_definition());
        if (servers_->shared_target()) PP_TRY(id_blocks_.keep_filled(*source_, *servers_));
        const auto found = ports_.journal.find_move(record_.id);
        if (found && found->state != record_.state)
            return fail(ErrorKind::unavailable, "another instance was asked to go on with the move");
    }
    return {};
}

// A change of the tenant's definitions isn't carried back. It is said when it is seen, not only to whoever wants to go
// back.
Result<void> MoveRun::look_at_definition() {
    auto found = source_->exec(signature_query_);
    if (!found) return found.error();
    if (definition_changed_ == (found->text(0, 0) != signature_)) return {};
    definition_changed_ = !definition_changed_;
    note(definition_changed_ ? definition_refusal() : std::string());
    if (definition_changed_) {
        log::warning("move_definition_changed",
                     {{"move", std::to_string(record_.id.value)}, {"tenant", record_.request.tenant}});
    }
    save_progress();
    return {};
}

std::string MoveRun::definition_refusal() const {
    return "the definition of " + servers_->what_moves() +
           " was changed after the flip: no rollback until that is undone";
}

Result<std::string> MoveRun::way_back_lost() {
    if (!servers_) PP_TRY(find_servers());
    const auto back = servers_->facing(Way::back);
    auto source = back.source();
    if (!source) return source.error();
    return look_at_slot(**source, back);
}

// Said first, then done: what keeps the log on the target goes when the journal says why.
Result<void> MoveRun::give_up_way_back(const std::string& why) {
    if (record_.state != MoveState::reversing) PP_TRY(enter(MoveState::reversing, why));
    PP_TRY(enter(MoveState::opened, why));
    {
        const std::lock_guard lock(mutex_);
        record_.rollback_refused = utf8_only(why);
    }
    log::warning("move_way_back_lost", {{"move", std::to_string(record_.id.value)},
                                        {"tenant", record_.request.tenant},
                                        {"reason", utf8_only(why)}});
    observer_->registry.counter("pgporter_move_ways_back_lost_total", "Moves that can't be rolled back any more, not because they were completed.")
        .inc();
    note("rollback is no longer possible: " + why);
    save_progress();
    return {};
}

void MoveRun::tidy_opened() {
    interrupt_.shield(Shield::cancel);
    std::chrono::milliseconds pause{100};
    while (!leaving_.load()) {
        auto done = servers_ ? Result<void>{} : find_servers();
        if (done) done = undo_way_back();
        if (done) return;
        log::warning("move_tidy_failed",
                     {{"move", std::to_string(record_.id.value)}, {"reason", utf8_only(done.error().message)}});
        if (!interrupt_.sleep(pause)) return;
        pause = std::min(pause * 2, retry_max);
    }
}

Result<void> MoveRun::check_rollback() {
    PP_TRY(look_at_definition());
    if (definition_changed_) return fail(ErrorKind::conflict, definition_refusal());
    if (servers_->shared_target()) {
        left_behind_known_ = follower_->left_behind();
        PP_TRY(check_return_to_shared());
    }
    auto records = ports_.journal.open_cleanups(record_.id);
    if (!records) return records.error();
    // A database that isn't ours to drop keeps what is in it.
    const bool drops = std::any_of(records->begin(), records->end(),
                                   [](const CleanupRecord& record) { return record.kind == ArtefactKind::target_database; });
    if (!drops) return {};
    auto others = left_behind(*source_, *servers_);
    if (!others) return others.error();
    if (others->empty()) return {};
    return fail(ErrorKind::conflict, "the tenant's database has what isn't in " + (servers_->rows() != nullptr ? "the shared schemas" : "schema " + servers_->schema()) +
                                         " and would be lost with it: " + *others);
}

Result<void> MoveRun::roll_back() {
    PP_TRY(check_rollback());
    PP_TRY(enter(MoveState::rolling_back, "comparing the source with the target"));
    {
        const std::lock_guard lock(mutex_);
        record_.progress.cutover_attempts = 0;
    }
    note("comparing the source with the target");
    const auto jobs = record_.request.copy_jobs != 0 ? record_.request.copy_jobs : ports_.config.mover.copy_jobs;
    verifier_.emplace(*servers_, tables_, *follower_, jobs);
    PP_TRY(verify_everything());
    const auto prepared = follower_->follow_during([this]() -> Result<void> {
        if (!servers_->shared_target()) PP_TRY(refresh_views());
        if (!servers_->shared_target() && !servers_->shared_source()) return {};
        auto target = servers_->target();
        if (!target) return target.error();
        return check_global_references(**target);
    });
    PP_TRY(prepared);
    return cut_over();
}

// The source owns the tenant. What the move made goes, the copy on the target too: it is of no use to anybody.
Result<void> MoveRun::finish_rollback() {
    close_sessions();
    if (!servers_) PP_TRY(find_servers());
    if (record_.target.kind == PlacementKind::rows) {
        auto leaving = servers_->facing(Way::back);
        servers_.emplace(std::move(leaving));
        PP_TRY(drop_source_rows());
    }
    auto facing = servers_->facing(Way::there);
    servers_.emplace(std::move(facing));
    {
        auto source = servers_->source();
        if (!source) return source.error();
        PP_TRY(end_other_sessions(**source, *servers_));
        PP_TRY(disable_fence(**source, *servers_));
    }
    PP_TRY(undo_records(ports_.journal, *servers_, [](const CleanupRecord&) { return true; }));
    note("");
    save_progress();
    PP_TRY(enter(MoveState::rolled_back, "the tenant lives where it came from"));
    count_outcome("rolled_back");
    return {};
}

}  // namespace pgporter
