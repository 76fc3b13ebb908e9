// The MoveJournal of CatalogStore: creating and advancing moves, progress, cleanup records, ownership. The flip:
// store_flip.cpp.
#include "catalog/move_rows.hpp"
#include "catalog/step_outcome.hpp"
#include "catalog/store.hpp"
#include "catalog/store_impl.hpp"

namespace pgporter {
namespace {

constexpr int moves_listed_max = 1000;
constexpr std::string_view ownership_lock_class =
    "1885827186";  // "pgpr" in ASCII: the other half of the lock is the move's id

using Mode = StoreTransaction::Mode;

std::string id_text(MoveId move) {
    return std::to_string(move.value);
}

PgStatement advance_move() {
    return {"advance_move",
            "UPDATE pgporter.moves SET state = $3, updated_at = clock_timestamp(), "
            "error = CASE WHEN $3 = 'aborting' THEN $4 ELSE error END, "
            "rollback_refused = CASE WHEN $3 = 'opened' THEN $4 ELSE rollback_refused END, "
            "finished_at = CASE WHEN $3 IN ('completed', 'rolled_back', 'aborted') THEN clock_timestamp() END "
            "WHERE id = $1::bigint AND state = $2"};
}

PgStatement note_step() {
    return {"note_step", "INSERT INTO pgporter.move_steps (move, state, note, token) VALUES ($1::bigint, $2, $3, $4)"};
}

Error no_such_move(MoveId move) {
    return fail(ErrorKind::not_found, "move " + id_text(move) + " doesn't exist");
}

// Who waits for a COMMIT that another instance's create_move is in finds its move afterwards: the tenant's row is
// locked first.
Result<std::string> lock_tenant_for_move(PgConnection& sql, const MoveRequest& request, const Placement& source,
                                         Epoch epoch) {
    const auto row = sql.exec_params(
        "SELECT id, epoch, kind, cluster, database, schema FROM pgporter.tenants WHERE name = $1 FOR UPDATE",
        {request.tenant});
    if (!row) return row.error();
    if (row->empty()) return fail(ErrorKind::not_found, "tenant \"" + request.tenant + "\" doesn't exist");
    const auto unfinished = sql.exec_params(
        "SELECT id, state FROM pgporter.moves WHERE tenant_id = $1::bigint AND state NOT IN ('completed', 'rolled_back', 'aborted')",
        {row->string(0, 0)});
    if (!unfinished) return unfinished.error();
    if (!unfinished->empty()) {
        return fail(ErrorKind::conflict, "tenant \"" + request.tenant + "\" is already being moved",
                    "move " + unfinished->string(0, 0) + " is " + unfinished->string(0, 1));
    }
    const bool same_source = row->text(0, 2) == to_text(source.kind) && row->text(0, 3) == source.cluster &&
                             row->text(0, 4) == source.database && row->text(0, 5) == source.schema;
    if (row->unsigned_integer(0, 1) != epoch.value || !same_source) {
        return fail(ErrorKind::conflict, "tenant \"" + request.tenant + "\" no longer lives where the move would begin",
                    {}, "read the catalog again");
    }
    return row->string(0, 0);
}

Result<void> check_target(PgConnection& sql, const Placement& source, const Placement& target) {
    const bool is_demote = source.kind == PlacementKind::database && target.kind != PlacementKind::database;
    if ((target.kind != PlacementKind::database && !is_demote) || target.schema != source.schema) {
        return fail(ErrorKind::invalid,
                    "a move ends in a database of the tenant's own, or leads from there to a shared one, in a schema of the same name");
    }
    const auto cluster = sql.exec_params("SELECT 1 FROM pgporter.clusters WHERE name = $1", {target.cluster});
    if (!cluster) return cluster.error();
    if (cluster->empty()) return fail(ErrorKind::not_found, "cluster \"" + target.cluster + "\" doesn't exist");
    const auto owner =
        sql.exec_params("SELECT name FROM pgporter.tenants WHERE cluster = $1 AND database = $2 AND "
                        "((schema = $3 AND $4 <> 'rows') OR kind = 'database')",
                        {target.cluster, target.database, target.schema, std::string(to_text(target.kind))});
    if (!owner) return owner.error();
    if (owner->empty()) return {};
    return fail(ErrorKind::conflict, "tenant \"" + owner->string(0, 0) + "\" lives in the move's target already");
}

// The shared database's name stays a known one after its last tenant left it: those who log in with that name go on
// doing so.
Result<void> keep_source_database_known(PgConnection& sql, const Placement& source) {
    if (source.kind == PlacementKind::database) return {};
    const PgParams key{source.cluster, source.database};
    const auto known = sql.exec_params("SELECT 1 FROM pgporter.databases WHERE cluster = $1 AND name = $2", key);
    if (!known) return known.error();
    if (!known->empty()) return {};
    PP_TRY(sql.exec_params("INSERT INTO pgporter.databases (cluster, name) VALUES ($1, $2)", key));
    return {};
}

Result<MoveRecord> insert_move(PgConnection& sql, const MoveRequest& request, const std::string& tenant_id,
                               const Placement& source, const Placement& target, Epoch epoch,
                               const std::string& token) {
    auto row = sql.exec_params(
        "INSERT INTO pgporter.moves AS m (tenant_id, tenant, copy_jobs, cutover, source_kind, source_cluster, "
        "source_database, "
        "source_schema, target_kind, target_cluster, target_database, target_schema, epoch, state) "
        "VALUES ($1::bigint, $2, $3::bigint, $4::boolean, $5, $6, $7, $8, $9, $10, $11, $12, $13::bigint, 'planned') "
        "RETURNING " +
            move_columns(),
        {tenant_id, request.tenant, std::to_string(request.copy_jobs), request.cutover ? "true" : "false",
         std::string(to_text(source.kind)), source.cluster, source.database, source.schema,
         std::string(to_text(target.kind)), target.cluster, target.database, target.schema,
         std::to_string(epoch.value)});
    if (!row) return row.error();
    PP_TRY(sql.exec_params("INSERT INTO pgporter.move_steps (move, state, token) VALUES ($1::bigint, 'planned', $2)",
                           {row->string(0, 0), token}));
    return move_from_row(*row, 0);
}

// The other instances end these connections of one that has stopped (catalog/instances.cpp).
std::string owner_name(MoveId move, std::uint32_t instance) {
    return "owner of move " + id_text(move) + " in instance " + std::to_string(instance);
}

class AdvisoryOwnership final : public MoveOwnership {
  public:
    AdvisoryOwnership(CatalogConfig config, MoveId move, std::uint32_t instance) : config_(std::move(config)), move_(move), instance_(instance) {}

    [[nodiscard]] bool is_held() override { return connection_.notifications().has_value(); }

    [[nodiscard]] Result<void> renew() override {
        connection_.close();
        auto connection = connect_catalog(config_, owner_name(move_, instance_));
        if (!connection) return connection.error();
        // Where the way to the catalog broke and not the catalog, the server may still have our last session.
        PP_TRY(connection->exec_params(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE pid = $1::integer AND usename = session_user AND "
            "application_name = current_setting('application_name')",
            {std::to_string(backend_pid_)}));
        return lock(*std::move(connection));
    }

    [[nodiscard]] Result<void> lock(PgConnection connection) {
        const auto locked = connection.exec_params("SELECT pg_try_advisory_lock($1::integer, $2::integer)",
                                                   {std::string(ownership_lock_class), id_text(move_)});
        if (!locked) return locked.error();
        if (!locked->boolean(0, 0)) {
            return fail(ErrorKind::conflict,
                        "move " + id_text(move_) + " is owned by another instance, or by another thread of this one");
        }
        connection_ = std::move(connection);
        backend_pid_ = connection_.backend_pid();
        return {};
    }

  private:
    const CatalogConfig config_;
    const MoveId move_;
    const std::uint32_t instance_;
    PgConnection connection_;  // the lock lives as long as this session does
    int backend_pid_ = 0;      // of the session that had the lock last
};

}  // namespace

Result<void> write_step(PgConnection& sql, const MoveStep& step) {
    const std::string to(to_text(step.to));
    const auto changed = sql.exec_prepared(advance_move(), {id_text(step.move), std::string(to_text(step.from)), to, std::string(step.note)});
    if (!changed) return changed.error();
    if (changed->affected() == 0) {
        const auto row = sql.exec_params("SELECT state FROM pgporter.moves WHERE id = $1::bigint", {id_text(step.move)});
        if (!row) return row.error();
        if (row->empty()) return no_such_move(step.move);
        return fail(ErrorKind::conflict,
                    "move " + id_text(step.move) + " is " + row->string(0, 0) + ", not " + std::string(to_text(step.from)));
    }
    PP_TRY(sql.exec_prepared(note_step(), {id_text(step.move), to, std::string(step.note), step.token}));
    return {};
}

Result<MoveRecord> CatalogStore::create_move(const MoveRequest& request, const Placement& source,
                                             const Placement& target, Epoch epoch, std::uint32_t unfinished_max) {
    const auto token = new_step_token();
    if (!token) return token.error();
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    auto& sql = transaction->sql();
    PP_TRY(sql.exec(
        "SELECT version FROM pgporter.catalog_version FOR UPDATE"));  // first, as every change of the catalog does it
    const auto tenant_id = lock_tenant_for_move(sql, request, source, epoch);
    if (!tenant_id) return tenant_id.error();
    PP_TRY(check_target(sql, source, target));
    PP_TRY(check_room_in_queue(sql, unfinished_max));
    PP_TRY(keep_source_database_known(sql, source));
    auto move = insert_move(sql, request, *tenant_id, source, target, epoch, *token);
    if (!move) return move;
    const auto committed = transaction->commit();
    if (committed) return move;
    if (!transaction->outcome_unknown()) return committed.error();
    const StepQuestion question{*token, "SELECT 1 FROM pgporter.tenants WHERE id = $1::bigint FOR UPDATE", *tenant_id};
    const auto made = step_was_made(impl_->connection, question);
    if (!made) return made.error();
    return *made ? std::move(move) : committed.error();
}

Result<void> CatalogStore::advance(MoveId move, MoveState from, MoveState to, std::string_view note) {
    // The flips have a function of their own.
    if (!may_follow(from, to) || to == MoveState::flipped || to == MoveState::flipped_back) {
        return fail(ErrorKind::internal,
                    "a move can't go from " + std::string(to_text(from)) + " to " + std::string(to_text(to)));
    }
    const auto token = new_step_token();
    if (!token) return token.error();
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    auto& sql = transaction->sql();
    PP_TRY(write_step(sql, {move, from, to, note, *token}));
    // Said before the pause: in it, clients wait for every statement that has yet to be read.
    const bool back = to == MoveState::rolling_back;
    if (back || to == MoveState::hold) PP_TRY(prepare_flip(sql, back));
    if (to == MoveState::rolling_back) impl_->remember_step(move, *token);
    if (is_finished(to)) impl_->forget_steps(move);
    const auto committed = transaction->commit();
    if (committed) return {};
    if (!transaction->outcome_unknown()) return committed.error();
    const auto made = step_was_made(impl_->connection, StepQuestion::of_move(*token, move));
    if (!made) return made.error();
    return *made ? Result<void>() : Result<void>(committed.error());
}

Result<void> CatalogStore::save_progress(MoveId move, const MoveProgress& progress) {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    const auto changed = transaction->sql().exec_params(
        "UPDATE pgporter.moves SET rows_total_estimate = $2::numeric, rows_copied = $3::numeric, bytes_copied = "
        "$4::numeric, "
        "changes_applied = $5::numeric, transactions_applied = $6::numeric, rows_verified = $7::numeric, lag_bytes = "
        "$8::numeric, "
        "cutover_attempts = $9::bigint, pause_ms = $10::double precision, note = $11, updated_at = clock_timestamp(), "
        "bytes_total_estimate = $12::numeric, bytes_per_second = $13::double precision, seconds_left = $14::double precision, "
        "throttled = $15::double precision, throttled_by = $16, source_wal_bytes = $17::numeric WHERE id = $1::bigint",
        {id_text(move), std::to_string(progress.rows_total_estimate), std::to_string(progress.rows_copied),
         std::to_string(progress.bytes_copied), std::to_string(progress.changes_applied),
         std::to_string(progress.transactions_applied), std::to_string(progress.rows_verified),
         std::to_string(progress.lag_bytes), std::to_string(progress.cutover_attempts),
         std::to_string(progress.pause_ms), progress.note, std::to_string(progress.bytes_total_estimate),
         std::to_string(progress.bytes_per_second),
         progress.seconds_left ? std::optional(std::to_string(*progress.seconds_left)) : std::nullopt,
         std::to_string(progress.throttled), progress.throttled_by, std::to_string(progress.source_wal_bytes)});
    if (!changed) return changed.error();
    if (changed->affected() == 0) return no_such_move(move);
    return transaction->commit();
}

Result<MoveRecord> CatalogStore::find_move(MoveId move) {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_only);
    if (!transaction) return transaction.error();
    const auto row = transaction->sql().exec_params(
        "SELECT " + move_columns() + " FROM pgporter.moves AS m WHERE m.id = $1::bigint", {id_text(move)});
    if (!row) return row.error();
    if (row->empty()) return no_such_move(move);
    return move_from_row(*row, 0);
}

Result<std::vector<MoveRecord>> CatalogStore::list_moves(bool unfinished_only) {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_only);
    if (!transaction) return transaction.error();
    const auto rows = transaction->sql().exec_params(
        "SELECT " + move_columns() +
            " FROM pgporter.moves AS m WHERE NOT $1::boolean OR m.state NOT IN ('completed', 'rolled_back', 'aborted') "
            "ORDER BY m.id DESC LIMIT $2::bigint",
        {unfinished_only ? "true" : "false", std::to_string(moves_listed_max)});
    if (!rows) return rows.error();
    std::vector<MoveRecord> moves;
    for (int i = 0; i < rows->rows(); ++i) {
        auto move = move_from_row(*rows, i);
        if (!move) return move.error();
        moves.push_back(*std::move(move));
    }
    return moves;
}

Result<std::int64_t> CatalogStore::add_cleanup(const CleanupRecord& record) {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    const auto row = transaction->sql().exec_params(
        "INSERT INTO pgporter.cleanup_records (move, kind, at_end, cluster, database, name, done) "
        "SELECT id, $2, $3, $4, $5, $6, $7::boolean FROM pgporter.moves WHERE id = $1::bigint RETURNING id",
        {id_text(record.move), std::string(to_text(record.kind)), std::string(to_text(record.when)), record.cluster,
         record.database, record.name, record.done ? "true" : "false"});
    if (!row) return row.error();
    if (row->empty()) return no_such_move(record.move);
    const std::int64_t id = row->integer(0, 0);
    // Whoever doesn't learn that this was committed must not make the thing; a record of what never was does no harm.
    PP_TRY(transaction->commit());
    return id;
}

Result<void> CatalogStore::cleanup_done(std::int64_t id) {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    const auto changed = transaction->sql().exec_params(
        "UPDATE pgporter.cleanup_records SET done = true WHERE id = $1::bigint", {std::to_string(id)});
    if (!changed) return changed.error();
    if (changed->affected() == 0)
        return fail(ErrorKind::not_found, "cleanup record " + std::to_string(id) + " doesn't exist");
    return transaction->commit();
}

Result<std::vector<CleanupRecord>> CatalogStore::open_cleanups(MoveId move) {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_only);
    if (!transaction) return transaction.error();
    const auto rows = transaction->sql().exec_params(
        "SELECT " + cleanup_columns() +
            " FROM pgporter.cleanup_records AS c WHERE c.move = $1::bigint AND NOT c.done ORDER BY c.id DESC",
        {id_text(move)});
    if (!rows) return rows.error();
    std::vector<CleanupRecord> records;
    for (int i = 0; i < rows->rows(); ++i) {
        auto record = cleanup_from_row(*rows, i);
        if (!record) return record.error();
        records.push_back(*std::move(record));
    }
    return records;
}

Result<void> CatalogStore::describe_target_database(MoveId move) {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    PP_TRY(transaction->sql().exec_params(
        "WITH made AS (INSERT INTO pgporter.databases (cluster, name, isolation, tenant_setting, tenant_column) "
        "SELECT m.target_cluster, m.target_database, d.isolation, d.tenant_setting, d.tenant_column FROM pgporter.moves AS m "
        "JOIN pgporter.databases AS d ON d.cluster = m.source_cluster AND d.name = m.source_database WHERE m.id = $1::bigint "
        "ON CONFLICT DO NOTHING RETURNING cluster, name) "
        "INSERT INTO pgporter.cleanup_records (move, kind, at_end, cluster, database, name) "
        "SELECT $1::bigint, $2, $3, cluster, name, name FROM made",
        {id_text(move), std::string(to_text(ArtefactKind::catalog_database)), std::string(to_text(CleanupWhen::after_abort))}));
    return transaction->commit();
}

Result<void> CatalogStore::forget_target_database(MoveId move) {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    PP_TRY(transaction->sql().exec_params(
        "DELETE FROM pgporter.databases AS d USING pgporter.moves AS m WHERE m.id = $1::bigint AND m.state IN ('aborting', 'flipped_back') "
        "AND d.cluster = m.target_cluster AND d.name = m.target_database",
        {id_text(move)}));
    return transaction->commit();
}

Result<std::unique_ptr<MoveOwnership>> CatalogStore::own_move(MoveId move) {
    auto connection = connect_catalog(impl_->connection.config(), owner_name(move, impl_->instance));
    if (!connection) return connection.error();
    auto ownership = std::make_unique<AdvisoryOwnership>(impl_->connection.config(), move, impl_->instance);
    PP_TRY(ownership->lock(*std::move(connection)));
    return std::unique_ptr<MoveOwnership>(std::move(ownership));
}

}  // namespace pgporter
