// What differs where the changes go into tables that others have rows in too: a demote, and the way back of a promote. Only rows of the
// tenant's key are ever written there; whatever would be lost, or would be in others' way, refuses the return.
#include "admin/mover/apply.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/row_deletion.hpp"
#include "admin/mover/row_fence.hpp"
#include "admin/mover/shared_rows.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {
namespace {

std::string left_behind_table(const MoveServers& servers) {
    return quote_ident(servers.artefact()) + ".left_behind";
}

}  // namespace

// `servers` face the way into the shared tables; their progress table has been made.
Result<void> MoveRun::prepare_shared_target(const MoveServers& servers, ServerSession& shared, ServerSession& own) {
    PP_TRY(shared.exec("CREATE TABLE " + left_behind_table(servers) + " (name text PRIMARY KEY, changes bigint NOT NULL)"));
    PP_TRY(IdBlocks::create_table(shared, servers));
    PP_TRY(id_blocks_.load(shared, own, servers));
    return id_blocks_.keep_filled(own, servers);
}

// After turning round. The gate's row says whose rows they are, whatever the catalog says by now.
Result<void> MoveRun::recall_shared_rows(ServerSession& shared) {
    if (!servers_->shared_target() && !servers_->shared_source()) return servers_->read_shared_schemas();
    auto gate = read_gate(shared, servers_->shared_target() ? servers_->opposite_artefact() : servers_->artefact());
    if (!gate) return gate.error();
    if (!*gate) return fail(ErrorKind::conflict, "the fence of the shared tables is gone");
    auto rows = *servers_->rows();
    rows.column = (*gate)->tenant_column;
    rows.key = (*gate)->tenant_key;
    servers_->set_rows(std::move(rows));
    return servers_->read_shared_schemas();
}

Result<void> MoveRun::mark_tables_into_shared(ServerSession& own) {
    PP_TRY(mark_shared_tables(own, *servers_->rows(), tables_));
    for (auto& table : tables_) table.into_shared = true;
    return {};
}

// What the tenant's own database holds and the shared tables can't take.
Result<void> MoveRun::check_return_to_shared() {
    const auto& rows = *servers_->rows();
    const auto snapshot = ports_.publisher.current();
    if (const auto tenant = snapshot->find_tenant(record_.request.tenant); tenant && tenant_key(*tenant) != rows.key) {
        return fail(ErrorKind::conflict, "the tenant's key in the catalog is no longer \"" + rows.key + "\", by which its rows of the shared tables are known");
    }
    PP_TRY(source_->exec("SET row_security = off"));
    for (const auto& table : tables_) {
        if (table.partitioned || !table.tenant_column) continue;
        auto strangers = source_->exec("SELECT count(*) FROM ONLY " + table.qualified_name() + " AS t WHERE (" + table.row_filter + ") IS NOT TRUE");
        if (!strangers) return strangers.error();
        if (strangers->number(0, 0) == 0) continue;
        return fail(ErrorKind::conflict, strangers->string(0, 0) + " rows of " + table.plain_name() + " have another " + rows.column +
                                             " than the tenant's key: they don't go into the shared tables", {},
                    "correct or delete them in the tenant's database");
    }
    auto target = servers_->target();
    if (!target) return target.error();
    auto left = (*target)->exec("SELECT string_agg(name || ' (' || changes || ' changes)', ', ' ORDER BY name) FROM " + left_behind_table(*servers_));
    if (!left) return left.error();
    if (left->is_null(0, 0)) return {};
    return fail(ErrorKind::conflict,
                "the tenant has changed its own copy of global tables since the flip: " + left->string(0, 0) +
                    "; a rollback leaves these changes behind",
                {}, "carry over by hand what is needed, then DELETE FROM " + left_behind_table(*servers_) + " in the shared database");
}

// Foreign keys aren't enforced while changes are applied: what the tenant's copy of a global table had may be missing in everybody's.
Result<void> MoveRun::check_global_references(ServerSession& shared) {
    std::string oids;
    for (const auto& table : tables_) {
        if (table.tenant_column && !table.partition) oids += (oids.empty() ? "" : ", ") + quote_literal(table.qualified_name()) + "::regclass";
    }
    if (oids.empty()) return {};
    auto queries = shared.exec(
        "SELECT k.conname, k.conrelid::regclass, format('%s.%s', n.nspname, c.relname), format('SELECT count(*) FROM %s AS t WHERE %s AND NOT EXISTS "
        "(SELECT FROM %s AS g WHERE %s) AND ', k.conrelid::regclass, (SELECT string_agg(format('t.%I IS NOT NULL', x.attname), ' AND ') FROM "
        "unnest(k.conkey) AS u (x) JOIN pg_attribute x ON x.attrelid = k.conrelid AND x.attnum = u.x), k.confrelid::regclass, "
        "(SELECT string_agg(format('g.%I = t.%I', y.attname, x.attname), ' AND ') FROM unnest(k.conkey, k.confkey) AS u (x, y) "
        "JOIN pg_attribute x ON x.attrelid = k.conrelid AND x.attnum = u.x JOIN pg_attribute y ON y.attrelid = k.confrelid AND y.attnum = u.y)) "
        "FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.contype = 'f' AND "
        "k.conparentid = 0 AND k.conrelid IN (" + oids + ") AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attname = $1 "
        "AND NOT a.attisdropped AND coalesce(obj_description(k.confrelid, 'pg_class'), '') !~* 'pgporter: *global') ORDER BY 1",
        {servers_->rows()->column});
    if (!queries) return queries.error();
    PP_TRY(shared.exec("SET row_security = off"));
    for (int row = 0; row < queries->count(); ++row) {
        const auto table = std::find_if(tables_.begin(), tables_.end(), [&](const SourceTable& t) { return t.plain_name() == queries->text(row, 2); });
        if (table == tables_.end()) return fail(ErrorKind::internal, "a foreign key of an unknown table: " + queries->string(row, 2));
        auto missing = shared.exec(queries->string(row, 3) + table->row_filter);
        if (!missing) return missing.error();
        if (missing->number(0, 0) == 0) continue;
        return fail(ErrorKind::conflict, missing->string(0, 0) + " rows of the tenant in " + table->plain_name() + " refer by " + queries->string(row, 0) +
                                             " to what the global table there doesn't have", {},
                    "add it there, or correct the tenant's rows");
    }
    return {};
}

// A demote makes nothing in the shared database but the tenant's rows. Ids are kept apart from before the copy on.
Result<void> MoveRun::make_room_for_rows() {
    PP_TRY(mark_tables_into_shared(*source_));
    auto target = servers_->target();
    if (!target) return target.error();
    PP_TRY(record_artefact(ArtefactKind::progress_table, CleanupWhen::always, record_.target, artefact_name(record_.id)));
    PP_TRY(create_progress_table(**target, *servers_, signature_));
    PP_TRY(prepare_shared_target(*servers_, **target, *source_));
    return record_artefact(ArtefactKind::target_rows, CleanupWhen::after_abort, record_.target, tenant_rows_name(*servers_->rows()));
}

// Global tables are there; and what isn't the tenant's stays behind, for the comparison to find.
std::vector<SourceTable> MoveRun::tables_to_share() const {
    std::vector<SourceTable> tables;
    for (const auto& table : tables_) {
        if (!table.tenant_column) continue;
        tables.push_back(table);
        tables.back().into_shared = false;
    }
    return tables;
}

Result<void> MoveRun::check_arrived_rows() {
    auto target = servers_->target();
    if (!target) return target.error();
    return check_global_references(**target);
}

// After the flip of a demote. Whoever asked whether the tenant had left this database was told so until now.
Result<void> MoveRun::welcome_rows() {
    auto target = servers_->target();
    if (!target) return target.error();
    return drop_left_gates(**target, *servers_);
}

}  // namespace pgporter
