#include "catalog/move_rows.hpp"

#include <charconv>

namespace pgporter {
namespace {

Error unknown_value(std::string_view what, std::string_view value) {
    return fail(ErrorKind::internal,
                "the catalog has an unknown " + std::string(what) + " \"" + std::string(value) + "\"");
}

std::string rfc3339(const std::string& column) {
    return "coalesce(to_char(" + column + " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), '')";
}

double number_from(std::string_view text) {
    double value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

}  // namespace

const std::string& move_columns() {
    static const std::string columns =
        "m.id, m.tenant, m.copy_jobs, m.cutover, "
        "m.source_kind, m.source_cluster, m.source_database, m.source_schema, "
        "m.target_kind, m.target_cluster, m.target_database, m.target_schema, m.epoch, m.state, "
        "m.rows_total_estimate, m.rows_copied, m.bytes_copied, m.changes_applied, m.transactions_applied, "
        "m.rows_verified, "
        "m.lag_bytes, m.cutover_attempts, m.pause_ms, m.note, m.error, " +
        rfc3339("m.created_at") + ", " + rfc3339("m.updated_at") + ", " + rfc3339("m.finished_at") +
        ", m.rollback_refused, CASE WHEN m.state = 'planned' THEN (SELECT count(*) + 1 FROM pgporter.moves AS q WHERE q.state = 'planned' "
        "AND q.id < m.id) ELSE 0 END, m.bytes_total_estimate, m.bytes_per_second, m.seconds_left, m.throttled, m.throttled_by, "
        "m.source_wal_bytes";
    return columns;
}

Result<MoveRecord> move_from_row(const PgResult& result, int row) {
    const auto source_kind = placement_kind_from(result.text(row, 4));
    const auto target_kind = placement_kind_from(result.text(row, 8));
    const auto state = move_state_from(result.text(row, 13));
    if (!source_kind || !target_kind) return unknown_value("placement of move", result.text(row, 0));
    if (!state) return unknown_value("move state", result.text(row, 13));
    MoveRecord move;
    move.id = MoveId{result.unsigned_integer(row, 0)};
    move.source = {*source_kind, result.string(row, 5), result.string(row, 6), result.string(row, 7)};
    move.target = {*target_kind, result.string(row, 9), result.string(row, 10), result.string(row, 11)};
    move.request.kind = kind_of_move(*source_kind, *target_kind);
    move.request.tenant = result.string(row, 1);
    move.request.cluster = move.target.cluster;
    move.request.database = move.target.database;
    move.request.copy_jobs = static_cast<std::uint32_t>(result.unsigned_integer(row, 2));
    move.request.cutover = result.boolean(row, 3);
    move.epoch = Epoch{result.unsigned_integer(row, 12)};
    move.state = *state;
    auto& progress = move.progress;
    progress.rows_total_estimate = result.unsigned_integer(row, 14);
    progress.rows_copied = result.unsigned_integer(row, 15);
    progress.bytes_copied = result.unsigned_integer(row, 16);
    progress.changes_applied = result.unsigned_integer(row, 17);
    progress.transactions_applied = result.unsigned_integer(row, 18);
    progress.rows_verified = result.unsigned_integer(row, 19);
    progress.lag_bytes = result.unsigned_integer(row, 20);
    progress.cutover_attempts = static_cast<std::uint32_t>(result.unsigned_integer(row, 21));
    progress.pause_ms = number_from(result.text(row, 22));
    progress.note = result.string(row, 23);
    move.error = result.string(row, 24);
    move.created_at = result.string(row, 25);
    move.updated_at = result.string(row, 26);
    move.finished_at = result.string(row, 27);
    move.rollback_refused = result.string(row, 28);
    move.place_in_line = static_cast<std::uint32_t>(result.unsigned_integer(row, 29));
    progress.bytes_total_estimate = result.unsigned_integer(row, 30);
    progress.bytes_per_second = number_from(result.text(row, 31));
    if (!result.is_null(row, 32)) progress.seconds_left = number_from(result.text(row, 32));
    progress.throttled = number_from(result.text(row, 33));
    progress.throttled_by = result.string(row, 34);
    progress.source_wal_bytes = result.unsigned_integer(row, 35);
    return move;
}

const std::string& cleanup_columns() {
    static const std::string columns = "c.id, c.move, c.kind, c.at_end, c.cluster, c.database, c.name, c.done";
    return columns;
}

Result<CleanupRecord> cleanup_from_row(const PgResult& result, int row) {
    const auto kind = artefact_kind_from(result.text(row, 2));
    const auto when = cleanup_when_from(result.text(row, 3));
    if (!kind || !when) return unknown_value("kind of cleanup record", result.text(row, 2));
    return CleanupRecord{result.integer(row, 0),
                         MoveId{result.unsigned_integer(row, 1)},
                         *kind,
                         *when,
                         result.string(row, 4),
                         result.string(row, 5),
                         result.string(row, 6),
                         result.boolean(row, 7)};
}

}  // namespace pgporter
