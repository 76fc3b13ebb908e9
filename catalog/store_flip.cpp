// CatalogStore::flip: the one commit point of a move.
#include "catalog/catalog_rows.hpp"
#include "catalog/step_outcome.hpp"
#include "catalog/store.hpp"
#include "catalog/store_impl.hpp"

namespace pgporter {
namespace {

using Mode = StoreTransaction::Mode;

struct Flipped {
    Tenant tenant;
    CatalogVersion version;
};

// The way there, or the way back: what the epoch must be tells them apart too.
PgStatement flip_move() {
    return {"flip_move",
            "UPDATE pgporter.moves SET state = CASE state WHEN 'drained' THEN 'flipped' ELSE 'flipped_back' END, "
            "updated_at = clock_timestamp() WHERE id = $1::bigint AND state IN ('drained', 'rolling_back') "
            "AND $2::bigint = CASE state WHEN 'drained' THEN epoch ELSE epoch + 1 END "
            "AND (state = 'drained' OR $3 = (SELECT s.token FROM pgporter.move_steps AS s WHERE s.move = $1::bigint "
            "ORDER BY s.id DESC LIMIT 1)) RETURNING state"};
}

PgStatement place_tenant(bool back) {
    const std::string side = back ? "source" : "target";
    return {"place_on_" + side,
            "UPDATE pgporter.tenants AS t SET kind = m." + side + "_kind, cluster = m." + side + "_cluster, database = m." + side +
                "_database, schema = m." + side +
                "_schema, epoch = t.epoch + 1 "
                "FROM pgporter.moves AS m WHERE m.id = $1::bigint AND t.id = m.tenant_id AND t.epoch = $2::bigint RETURNING " +
                tenant_columns() + ", t.changed_version"};
}

PgStatement note_flip() {
    return {"note_flip", "INSERT INTO pgporter.move_steps (move, state, token) VALUES ($1::bigint, $2, $3)"};
}

// The tenant's row after its columns has the catalog's version: the one that the statement itself raised.
Result<Flipped> flipped_from(const PgResult& row) {
    auto tenant = tenant_from_row(row, 0);
    if (!tenant) return tenant.error();
    return Flipped{*std::move(tenant), CatalogVersion{row.unsigned_integer(0, tenant_column_count)}};
}

// Both compare-and-sets, one after the other. Conflict: one of them found something else; the caller rolls back.
// `begun` is the token of the rollback's beginning: a move may roll back more than once, and a process that was stopped
// meanwhile must not flip for an attempt of another's.
Result<Flipped> flip_rows(PgConnection& sql, MoveId move, Epoch expected, const std::string& token,
                          const std::string& begun) {
    const std::string id = std::to_string(move.value);
    const auto moved = sql.exec_prepared(flip_move(), {id, std::to_string(expected.value), begun});
    if (!moved) return moved.error();
    if (moved->rows() != 1) {
        const auto row = sql.exec_params("SELECT state FROM pgporter.moves WHERE id = $1::bigint", {id});
        if (!row) return row.error();
        if (row->empty()) return fail(ErrorKind::not_found, "move " + id + " doesn't exist");
        return fail(ErrorKind::conflict, "move " + id + " is " + row->string(0, 0) + ", not drained, of another epoch, or another instance has taken it over");
    }
    const std::string state = moved->string(0, 0);
    const auto tenant = sql.exec_prepared(place_tenant(state == "flipped_back"), {id, std::to_string(expected.value)});
    if (!tenant) return tenant.error();
    if (tenant->rows() != 1) {
        return fail(ErrorKind::conflict, "the tenant of move " + id + " doesn't have the epoch " +
                                             std::to_string(expected.value) + " any more");
    }
    PP_TRY(sql.exec_prepared(note_flip(), {id, state, token}));
    return flipped_from(*tenant);
}

}  // namespace

Result<void> prepare_flip(PgConnection& sql, bool back) {
    PP_TRY(sql.prepare(flip_move()));
    PP_TRY(sql.prepare(place_tenant(back)));
    return sql.prepare(note_flip());
}

Result<Tenant> CatalogStore::flip(MoveId move, Epoch expected, CatalogVersion& version_out) {
    const auto token = new_step_token();
    if (!token) return token.error();
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    auto flipped = flip_rows(transaction->sql(), move, expected, *token, impl_->last_step(move));
    if (!flipped) return flipped.error();
    const auto committed = transaction->commit();
    if (!committed) {
        if (!transaction->outcome_unknown()) return committed.error();
        const auto made = step_was_made(impl_->connection, StepQuestion::of_move(*token, move));
        if (!made) return made.error();
        // Committed: the rows are what RETURNING said. Else nothing happened, and the caller may try again.
        if (!*made)
            return fail(ErrorKind::unavailable, "the connection to the catalog was lost; the flip was not committed");
    }
    version_out = flipped->version;
    return std::move(flipped->tenant);
}

}  // namespace pgporter
