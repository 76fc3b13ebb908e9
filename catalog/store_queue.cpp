// The queue of moves in the catalog: what waits, and who may begin.
#include "catalog/move_queue.hpp"
#include "catalog/step_outcome.hpp"
#include "catalog/store.hpp"
#include "catalog/store_impl.hpp"

namespace pgporter {
namespace {

using Mode = StoreTransaction::Mode;

// Moves are admitted one after the other, whichever instance asks; nobody waits for one that stopped in the middle. Half of the key is
// that of the moves' owners; no move has the id 0.
constexpr std::string_view admission_lock = "SELECT pg_try_advisory_xact_lock(1885827186, 0)";

Result<std::vector<QueueEntry>> read_queue(PgConnection& sql) {
    const auto rows = sql.exec("SELECT id, state, source_cluster FROM pgporter.moves "
                               "WHERE state NOT IN ('completed', 'rolled_back', 'aborted') ORDER BY id");
    if (!rows) return rows.error();
    std::vector<QueueEntry> moves;
    for (int row = 0; row < rows->rows(); ++row) {
        const auto state = move_state_from(rows->text(row, 1));
        if (!state) return fail(ErrorKind::internal, "the catalog has an unknown move state \"" + rows->string(row, 1) + "\"");
        moves.push_back({MoveId{rows->unsigned_integer(row, 0)}, *state, rows->string(row, 2)});
    }
    return moves;
}

}  // namespace

Result<void> check_room_in_queue(PgConnection& sql, std::uint32_t unfinished_max) {
    const auto moves = read_queue(sql);
    if (!moves) return moves.error();
    std::size_t taken = waiting_in_line(*moves);
    for (const auto& move : *moves) taken += is_at_work(move.state) ? 1U : 0U;
    if (taken < unfinished_max) return {};
    return fail(ErrorKind::limit, "mover.moves_max moves are running and mover.queue_max are waiting already", {},
                "wait for one to end, or cancel one of those that wait: pgporter moves");
}

Result<std::vector<QueueEntry>> CatalogStore::queue() {
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_only);
    if (!transaction) return transaction.error();
    return read_queue(transaction->sql());
}

Result<bool> CatalogStore::admit(MoveId move, const QueueLimits& limits) {
    const auto token = new_step_token();
    if (!token) return token.error();
    auto transaction = StoreTransaction::begin(impl_->connection, Mode::read_write);
    if (!transaction) return transaction.error();
    auto& sql = transaction->sql();
    const auto locked = sql.exec(std::string(admission_lock));
    if (!locked) return locked.error();
    if (!locked->boolean(0, 0)) return false;
    const auto moves = read_queue(sql);
    if (!moves) return moves.error();
    const auto next = next_in_line(*moves, limits);
    if (!next || *next != move) return false;
    PP_TRY(write_step(sql, {move, MoveState::planned, MoveState::preflight, "its turn has come", *token}));
    const auto committed = transaction->commit();
    if (committed) return true;
    if (!transaction->outcome_unknown()) return committed.error();
    const auto made = step_was_made(impl_->connection, StepQuestion::of_move(*token, move));
    if (!made) return made.error();
    return *made ? Result<bool>(true) : Result<bool>(committed.error());
}

}  // namespace pgporter
