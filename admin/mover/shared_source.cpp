// What a move of a tenant that is rows does differently on the source: publishing tables that others write to, and deleting
// rows instead of a schema.
#include <thread>

#include "admin/mover/move_names.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/preflight.hpp"
#include "admin/mover/row_deletion.hpp"
#include "admin/mover/row_fence.hpp"
#include "admin/mover/shared_rows.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr int lock_attempts_max = 600;
constexpr std::chrono::milliseconds entry_wait_max{10'000};

}  // namespace

// Under the locks that CREATE PUBLICATION takes nobody changes a replica identity: what is sound in this transaction is sound
// when it commits.
Result<void> MoveRun::publish_unless_harmful(ServerSession& source, const MoveServers& servers, const std::string& statement) {
    const auto check = "DO " + quote_literal("BEGIN IF (" + harmful_publication_query(servers.artefact()) +
                                             ") IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = '" + std::string(drift_sqlstate) +
                                             "', MESSAGE = 'a table has no usable replica identity'; END IF; END");
    auto published = retry_locks(interrupt_, lock_attempts_max, [&]() -> Result<void> {
        auto done = locked_transaction(source, ports_.config.mover.lock_timeout_ms, statement + "; " + check);
        if (done || done.error().sqlstate != drift_sqlstate) return done;
        auto error = done.error();
        error.kind = ErrorKind::invalid;  // not to be tried again
        return error;
    });
    // On the way back it is watched from when it is followed.
    if (!published || !servers.shared_source() || servers.way() == Way::back) return published;
    auto watch = PublicationWatch::start(*servers_, interrupt_);
    if (!watch) return watch.error();
    publication_watch_ = std::move(*watch);
    return {};
}

// The proxies serve the tenant at its new place by what the catalog says of the database there: it must be in the snapshot before
// the flip. Other instances read both in one transaction, or the entry first.
Result<void> MoveRun::wait_for_target_entry() {
    const auto deadline = after(entry_wait_max);
    for (;;) {
        const auto snapshot = ports_.publisher.current();
        const auto* here = snapshot->find_database(record_.source.cluster, record_.source.database);
        const auto* there = snapshot->find_database(record_.target.cluster, record_.target.database);
        const bool same = (here == nullptr && there == nullptr) ||
                          (here != nullptr && there != nullptr && here->isolation == there->isolation && here->tenant_setting == there->tenant_setting);
        if (same) return {};
        if (passed(deadline)) {
            return fail(ErrorKind::timeout, "the catalog's entry of the target database hasn't come to this instance, or says something else");
        }
        if (interrupt_.heard()) return interrupt_.error();
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

// Schemas that a new database has by itself (public), or that its extensions made, belong to whom they belong on the source; what is
// granted on them is among the definitions.
Result<void> MoveRun::adopt_shared_schemas() {
    if (servers_->rows() == nullptr) return {};
    auto owners = source_->exec("SELECT nspname, nspowner::regrole FROM pg_namespace WHERE nspname = ANY ($1::text[])",
                                {servers_->schemas().as_array()});
    if (!owners) return owners.error();
    auto target = servers_->target();
    if (!target) return target.error();
    for (int row = 0; row < owners->count(); ++row) {
        auto differs = (*target)->exec("SELECT 1 FROM pg_namespace WHERE nspname = $1 AND nspowner::regrole::text <> $2",
                                       {owners->string(row, 0), owners->string(row, 1)});
        if (!differs) return differs.error();
        if (!differs->empty()) PP_TRY((*target)->exec("ALTER SCHEMA " + quote_ident(owners->text(row, 0)) + " OWNER TO " + owners->string(row, 1)));
    }
    return {};
}

// ALTER DATABASE .. SET and ALTER ROLE .. IN DATABASE .. SET: the server's own search_path is what finds a rows tenant's tables. What
// the mover may not set is left out, and said.
Result<void> MoveRun::adopt_database_settings() {
    if (servers_->rows() == nullptr) return {};
    auto settings = source_->exec(
        "SELECT CASE WHEN s.setrole = 0 THEN '' ELSE s.setrole::regrole::text END, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1) "
        "FROM pg_db_role_setting s, unnest(s.setconfig) AS c WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = "
        "current_database()) ORDER BY s.setrole, c");
    if (!settings) return settings.error();
    auto target = servers_->target();
    if (!target) return target.error();
    const auto database = quote_ident(record_.target.database);
    for (int row = 0; row < settings->count(); ++row) {
        const auto name = settings->string(row, 1);
        auto value = settings->string(row, 2);
        // Lists of names are stored as they must be written, but for the empty name.
        const bool is_list = name == "search_path" || name == "temp_tablespaces" || name.ends_with("_preload_libraries");
        for (auto at = value.find("\"\""); is_list && at != std::string::npos; at = value.find("\"\"")) value.replace(at, 2, "''");
        const auto role = settings->string(row, 0);
        const auto who = role.empty() ? "DATABASE " + database : "ROLE " + role + " IN DATABASE " + database;
        const auto written = is_list && !value.empty() ? value : quote_literal(value);
        auto set = (*target)->exec("ALTER " + who + " SET " + quote_ident(name) + " TO " + written);
        if (set) continue;
        if (set.error().sqlstate.empty()) return set.error();
        log::warning("move_setting_not_carried_over",
                     {{"move", std::to_string(record_.id.value)}, {"setting", name}, {"reason", set.error().message}});
    }
    return {};
}

// The fence outlives the rows: an instance that was cut off, or stopped, since before the flip must not write them anew. It goes when
// nobody is left who could, and its gate stays closed, for whoever asks it.
Result<void> MoveRun::drop_source_rows() {
    auto opened = servers_->source();
    if (!opened) return opened.error();
    auto& source = **opened;
    auto gate = read_gate(source, servers_->artefact());
    if (!gate) return gate.error();
    if (!*gate) return {};
    if (!(*gate)->fenced) return fail(ErrorKind::internal, "the tenant's rows on the source aren't fenced: they stay");
    if (!(*gate)->emptied) PP_TRY(delete_source_rows(source, **gate));
    auto late = find_late_writers(source, *servers_);
    if (!late) return late.error();
    if (!late->empty()) return fail(ErrorKind::timeout, *late);
    PP_TRY(drop_fence_triggers(source, *servers_));
    PP_TRY(leave_gate(source, *servers_));
    auto records = ports_.journal.open_cleanups(record_.id);
    if (!records) return records.error();
    for (const auto& record : *records) {
        const bool is_fence = record.kind == ArtefactKind::fence_triggers || record.kind == ArtefactKind::fence_function;
        if (is_fence && way_of_artefact(record.name) == servers_->way()) PP_TRY(ports_.journal.cleanup_done(record.id));
    }
    return {};
}

// The gate's row says whose rows they are: the catalog's key may have been changed since.
Result<void> MoveRun::delete_source_rows(ServerSession& source, const Gate& gate) {
    auto fenced = read_fenced_tables(source, *servers_);
    if (!fenced) return fenced.error();
    const SharedRows rows{gate.tenant_column, gate.tenant_key, {}, {}};
    auto schemas = read_shared_schemas(source, rows);
    if (!schemas) return schemas.error();
    auto tables = read_tables(source, *schemas);
    if (!tables) return tables.error();
    std::erase_if(*tables, [&](const SourceTable& table) {
        return !table.partitioned && std::find(fenced->begin(), fenced->end(), table.oid) == fenced->end();
    });
    PP_TRY(mark_shared_tables(source, rows, *tables));
    std::erase_if(*tables, [](const SourceTable& table) { return !table.tenant_column; });
    auto between = read_references_between_tenants(source, rows.column, *tables);
    if (!between) return between.error();
    if (!between->empty()) {
        return fail(ErrorKind::conflict, between->front() + " connects a row of the tenant with one that isn't its", {},
                    "correct these rows, then this goes on by itself");
    }
    PP_TRY(delete_tenant_rows(source, *tables, servers_->opposite_artefact(), interrupt_));
    return note_emptied(source, *servers_);
}

}  // namespace pgporter
