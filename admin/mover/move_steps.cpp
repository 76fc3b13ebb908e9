// The states from `preflight` to `catchup`, one function each.
#include <thread>

#include "admin/mover/apply.hpp"
#include "admin/mover/move_names.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/preflight.hpp"
#include "admin/mover/row_fence.hpp"
#include "admin/mover/statistics.hpp"
#include "catalog/step_outcome.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds caught_up_within{300};
constexpr std::chrono::seconds reconnect_for{60};
constexpr std::chrono::seconds quiet_learned_within{1};

}  // namespace

// Who keeps a snapshot from being taken: transactions with an id that began before it was asked for.
std::string transactions_in_the_way(ServerSession& source) {
    auto rows = source.exec(
        "SELECT string_agg('pid ' || pid || ' (' || coalesce(usename, '?') || ', since ' || to_char(xact_start, "
        "'HH24:MI:SS') || ')', ', ') FROM "
        "(SELECT * FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start "
        "LIMIT 5) AS a");
    auto prepared = source.exec("SELECT string_agg('prepared transaction ' || gid, ', ') FROM pg_prepared_xacts");
    std::string text;
    if (rows && !rows->is_null(0, 0)) text = rows->string(0, 0);
    if (prepared && !prepared->is_null(0, 0)) text += (text.empty() ? "" : ", ") + prepared->string(0, 0);
    return text;
}

std::string publication_statement(const std::string& name, const std::vector<SourceTable>& tables) {
    std::string list;
    for (const auto& table : tables) {
        if (!table.partitioned) list += (list.empty() ? " FOR TABLE ONLY " : ", ONLY ") + table.qualified_name();
    }
    return "CREATE PUBLICATION " + quote_ident(name) + list + " WITH (publish_via_partition_root = false)";
}

Result<PreflightReport> MoveRun::look_ahead_at_servers() {
    PP_TRY(servers_->read_shared_schemas());
    auto report = run_preflight(*servers_);
    if (!report) return report;
    {
        const std::lock_guard lock(mutex_);
        record_.progress.rows_total_estimate = report->rows_estimate;
        estimate_.set_size(report->bytes);
    }
    rollback_refused_.clear();
    for (const auto& warning : report->warnings) {
        if (warning.code != no_way_back) continue;
        rollback_refused_ += (rollback_refused_.empty() ? "" : "; ") + warning.message + " (" + warning.remedy + ")";
    }
    auto source = servers_->source();
    if (!source) return source.error();
    source_ = std::move(*source);
    return report;
}

Result<void> MoveRun::step_preflight() {
    auto report = look_ahead_at_servers();
    if (!report) return report.error();
    if (servers_->rows() != nullptr) {
        const auto snapshot = ports_.publisher.current();
        const auto tenant = snapshot->find_tenant(record_.request.tenant);
        if (!tenant) return fail(ErrorKind::not_found, "the tenant is no longer in the catalog");
        check_target_entry(ports_.config, *snapshot, *tenant, record_.target, *report);
    }
    if (report->blockers.empty()) return {};
    std::string list;
    for (const auto& blocker : report->blockers) {
        list += (list.empty() ? "" : "; ") + blocker.code + ": " + blocker.object + ": " + blocker.message + " (" + blocker.remedy + ")";
    }
    return fail(ErrorKind::conflict, "preflight found " + std::to_string(report->blockers.size()) + " blockers: " + list);
}

Result<void> MoveRun::create_target_database() {
    auto opened = servers_->target_server();
    if (!opened) return opened.error();
    auto& server = **opened;
    auto exists = server.exec("SELECT 1 FROM pg_database WHERE datname = $1", {record_.target.database});
    if (!exists) return exists.error();
    if (!exists->empty()) {
        if (servers_->rows() == nullptr) return {};
        return fail(ErrorKind::conflict, "somebody else made the target database in the meantime");
    }
    const bool providers = source_->server_version() >= 150000;
    auto traits = source_->exec(std::string("SELECT pg_encoding_to_char(encoding), datcollate, datctype, ") +
                                (providers ? "datlocprovider, " : "'c', ") +
                                (!providers                            ? "NULL"
                                 : source_->server_version() >= 170000 ? "datlocale"
                                                                       : "daticulocale") +
                                " FROM pg_database WHERE datname = current_database()");
    if (!traits) return traits.error();
    auto token = new_step_token();
    if (!token) return token.error();
    const auto made_as = artefact_name(record_.id) + "_" + token->substr(0, 12);
    auto statement = "CREATE DATABASE " + quote_ident(made_as) + " TEMPLATE template0 ENCODING " +
                     quote_literal(traits->text(0, 0)) + " LC_COLLATE " + quote_literal(traits->text(0, 1)) +
                     " LC_CTYPE " + quote_literal(traits->text(0, 2));
    if (traits->text(0, 3) == "i") statement += " LOCALE_PROVIDER icu ICU_LOCALE " + quote_literal(traits->text(0, 4));
    if (traits->text(0, 3) == "b")
        statement += " LOCALE_PROVIDER builtin BUILTIN_LOCALE " + quote_literal(traits->text(0, 4));
    // Marked before it gets its name: whoever undoes the move drops what bears the mark, never somebody else's database of that name.
    PP_TRY(record_artefact(ArtefactKind::target_database, CleanupWhen::after_abort, record_.target, made_as));
    PP_TRY(server.exec(statement));
    PP_TRY(server.exec("COMMENT ON DATABASE " + quote_ident(made_as) + " IS " + quote_literal(database_mark(made_as))));
    auto named = server.exec("ALTER DATABASE " + quote_ident(made_as) + " RENAME TO " + quote_ident(record_.target.database));
    if (named) return {};
    if (named.error().sqlstate != "42P04") return named.error();
    return fail(ErrorKind::conflict, "somebody else made the target database at the same moment");
}

// It isn't ours, and must never be dropped for ours.
Error MoveRun::somebody_was_quicker(ArtefactKind kind) {
    auto records = ports_.journal.open_cleanups(record_.id);
    if (!records) return records.error();
    for (const auto& record : *records) {
        if (record.kind != kind) continue;
        const auto done = ports_.journal.cleanup_done(record.id);
        if (!done) return done.error();
    }
    return fail(ErrorKind::conflict,
                "somebody else made the target schema at the same moment");
}

// In a database with neighbours: by a statement of its own, which tells whether the schema is ours.
Result<void> MoveRun::create_target_schema() {
    auto owner = source_->exec("SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = $1",
                               {record_.source.schema});
    if (!owner) return owner.error();
    if (owner->empty()) return fail(ErrorKind::not_found, "the source has no schema named " + record_.source.schema);
    auto target = servers_->target();
    if (!target) return target.error();
    auto created = (*target)->exec("CREATE SCHEMA " + quote_ident(record_.source.schema) + " AUTHORIZATION " +
                                   quote_ident(owner->text(0, 0)));
    if (created) return {};
    if (created.error().sqlstate != "42P06") return created.error();
    return somebody_was_quicker(ArtefactKind::target_schema);
}

Result<void> MoveRun::create_extensions() {
    auto needed = read_needed_extensions(*source_, servers_->schemas());
    if (!needed) return needed.error();
    auto target = servers_->target();
    if (!target) return target.error();
    for (const auto& extension : *needed) {
        PP_TRY((*target)->exec("CREATE SCHEMA IF NOT EXISTS " + quote_ident(extension.schema)));
        PP_TRY((*target)->exec("CREATE EXTENSION IF NOT EXISTS " + quote_ident(extension.name) + " SCHEMA " +
                               quote_ident(extension.schema) + " VERSION " + quote_literal(extension.version) +
                               " CASCADE"));
    }
    return {};
}

Result<void> MoveRun::learn_tables() {
    auto query = signature_query(*source_, servers_->schemas());
    if (!query) return query.error();
    signature_query_ = std::move(*query);
    auto signature = source_->exec(signature_query_);
    if (!signature) return signature.error();
    signature_ = signature->string(0, 0);
    auto tables = read_tables(*source_, servers_->schemas());
    if (!tables) return tables.error();
    tables_ = std::move(*tables);
    return servers_->shared_source() ? mark_shared_tables(*source_, *servers_->rows(), tables_) : Result<void>{};
}

Result<void> MoveRun::dump_definitions() {
    auto definitions = Definitions::dump(*servers_);
    if (!definitions) return definitions.error();
    definitions_.emplace(std::move(*definitions));
    return {};
}

Result<void> MoveRun::step_schema() {
    PP_TRY(enter(MoveState::schema, "making the tenant's schema in the target database"));
    // Read before anything is copied, so that whatever changes from now on is noticed.
    PP_TRY(learn_tables());
    if (servers_->shared_target()) return make_room_for_rows();
    PP_TRY(create_target_database());
    PP_TRY(create_extensions());
    PP_TRY(dump_definitions());
    if (servers_->rows() == nullptr) {
        PP_TRY(record_artefact(ArtefactKind::target_schema, CleanupWhen::after_abort, record_.target, record_.source.schema));
        if (record_.target.kind == PlacementKind::schema) PP_TRY(create_target_schema());
    } else {
        PP_TRY(ports_.journal.describe_target_database(record_.id));
    }
    PP_TRY(adopt_shared_schemas());
    PP_TRY(adopt_database_settings());
    return definitions_->restore_before_data(*servers_);
}

Result<void> MoveRun::step_gate() {
    PP_TRY(enter(MoveState::gate, "preparing the fence on the source, disabled"));
    PP_TRY(
        record_artefact(ArtefactKind::fence_function, CleanupWhen::always, record_.source, artefact_name(record_.id)));
    if (!servers_->shared_source()) {
        PP_TRY(create_fence_function(*source_, *servers_));
    } else {
        PP_TRY(create_row_fence(*source_, *servers_));
    }
    PP_TRY(record_artefact(ArtefactKind::fence_triggers, CleanupWhen::always, record_.source, fence_name(record_.id)));
    // Of shared tables they come last: each write of the tenant pays for them.
    return servers_->shared_source() ? Result<void>{} : install_fence_triggers(*source_, *servers_, tables_);
}

Result<void> MoveRun::step_slot() {
    PP_TRY(enter(MoveState::slot, "starting to collect the source's changes"));
    // Before the source has anything to keep for us.
    const auto learn_until = after(quiet_learned_within);
    while (!throttle_->knows_quiet() && !passed(learn_until)) {
        if (!interrupt_.sleep(std::chrono::milliseconds(50))) return interrupt_.error();
    }
    const auto name = artefact_name(record_.id);
    PP_TRY(record_artefact(ArtefactKind::publication, CleanupWhen::always, record_.source, name));
    PP_TRY(publish_unless_harmful(*source_, *servers_, publication_statement(name, tables_)));
    PP_TRY(record_artefact(ArtefactKind::replication_slot, CleanupWhen::always, record_.source, name));
    if (!copies_by_pieces()) {
        auto nodes = read_file_nodes(*source_, servers_->schemas());
        if (!nodes) return nodes.error();
        file_nodes_ = std::move(*nodes);
    }
    auto stream = servers_->replication();
    if (!stream) return stream.error();
    snapshot_keeper_.emplace(std::move(*stream));
    auto slot = snapshot_keeper_->create_slot(name, false, after(ports_.config.mover.slot_ms_max));
    if (!slot) {
        auto error = slot.error();
        if (error.kind == ErrorKind::timeout) {
            error.message = "no snapshot could be taken on the source's server within " +
                            std::to_string(ports_.config.mover.slot_ms_max.count()) + " ms";
            error.detail = "in the way: " + transactions_in_the_way(*source_);
            error.hint = "wait for these transactions to end, or end them, and start again";
        }
        return error;
    }
    snapshot_ = slot->snapshot;
    return copies_by_pieces() ? note_slot_snapshot() : Result<void>{};
}

Result<void> MoveRun::step_index() {
    if (record_.state != MoveState::index) PP_TRY(enter(MoveState::index, "building indexes, constraints and statistics on the target"));
    if (servers_->shared_target()) return check_arrived_rows();
    PP_TRY(build_indexes());
    PP_TRY(even_out_pieces());
    PP_TRY(end_resumable_part());
    PP_TRY(restore_rest_and_analyze());
    definitions_.reset();
    return refresh_views();
}

// Foreign keys that share a table are checked one after the other: meanwhile there is something else to do. Where both want the same table, one
// waits for the other; neither holds one table while it waits for another that the other holds.
Result<void> MoveRun::restore_rest_and_analyze() {
    Result<void> restored;
    Result<void> analyzed;
    {
        const std::jthread thread([&] { restored = definitions_->restore_rest(*servers_, copy_jobs()); });
        analyzed = analyze_tables(*servers_, tables_, copy_jobs(), [this] { tick(); });
    }
    PP_TRY(restored);
    return analyzed;
}

// What the stream doesn't carry.
Result<void> MoveRun::refresh_views() {
    auto target = servers_->target();
    if (!target) return target.error();
    auto views = (*target)->exec(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND "
        "n.nspname = ANY ($1::text[]) ORDER BY c.oid",
        {servers_->schemas().as_array()});
    if (!views) return views.error();
    for (int row = 0; row < views->count(); ++row) {
        PP_TRY((*target)->exec("REFRESH MATERIALIZED VIEW " + qualified(views->text(row, 0), views->text(row, 1))));
    }
    return {};
}

Result<void> MoveRun::emit_marker(const std::string& content) {
    PP_TRY(source_->exec("SELECT pg_logical_emit_message(true, " + quote_literal(servers_->artefact()) + ", " +
                         quote_literal(content) + ")"));
    return {};
}

Result<void> MoveRun::make_progress_table() {
    PP_TRY(record_artefact(ArtefactKind::progress_table, CleanupWhen::always, record_.target, artefact_name(record_.id)));
    auto target = servers_->target();
    if (!target) return target.error();
    return create_progress_table(**target, *servers_, signature_);
}

Result<void> MoveRun::make_follower() {
    auto path = operator_search_path(*source_);
    if (!path) return path.error();
    follower_.emplace(*servers_, tables_, std::move(*path), followed_);
    follower_->set_tick([this] { tick(); });
    return {};
}

// A marker written now is seen when everything before it has been applied. False: a connection broke, and another is there.
Result<bool> MoveRun::apply_until_now(Durability durability) {
    const auto marker = "catchup:" + std::to_string(++markers_);
    auto round = [&]() -> Result<void> {
        PP_TRY(emit_marker(marker));
        PP_TRY(follower_->follow_to_marker(marker, std::nullopt));
        return follower_->commit(durability, std::nullopt);
    }();
    if (!round && round.error().kind == ErrorKind::unavailable) {
        PP_TRY(reconnect());
        return false;
    }
    if (!round) return round.error();
    return true;
}

Result<void> MoveRun::step_catchup() {
    PP_TRY(enter(MoveState::catchup, "applying what was written since the copy began"));
    if (!follower_) PP_TRY(make_follower());
    follower_->be_lenient_with(rewritten_);
    if (servers_->shared_target()) follower_->set_id_blocks(&id_blocks_);
    PP_TRY(follower_->connect());
    guard_->catching_up(true);
    for (;;) {
        const auto began = std::chrono::steady_clock::now();
        const auto applied = apply_until_now(Durability::later);
        if (!applied) return applied.error();
        // When that takes no time, the target has caught up.
        if (*applied && std::chrono::steady_clock::now() - began < caught_up_within) break;
    }
    guard_->catching_up(false);
    return {};
}

// A server was away. The stream goes on where the target's progress row says; nothing is applied twice.
Result<void> MoveRun::reconnect() {
    const auto deadline = after(reconnect_for);
    std::chrono::milliseconds pause{100};
    for (;;) {
        follower_->close();
        fence_.reset();
        if (!interrupt_.sleep(pause)) return interrupt_.error();
        pause = std::min(pause * 2, std::chrono::milliseconds(2'000));
        auto source = servers_->source();
        if (source) source_ = std::move(*source);
        auto connected = source ? follower_->connect() : Result<void>{source.error()};
        if (connected) return {};
        const auto kind = connected.error().kind;
        // A slot that is lost, or isn't on this server at all, doesn't come back.
        const bool for_good = kind == ErrorKind::cancelled || kind == ErrorKind::internal || kind == ErrorKind::not_found;
        if (passed(deadline) || for_good) return connected;
        note("reconnecting: " + connected.error().message);
    }
}

}  // namespace pgporter
