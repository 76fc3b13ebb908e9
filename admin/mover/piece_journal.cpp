#include "admin/mover/piece_journal.hpp"

#include <algorithm>
#include <unordered_map>

namespace pgporter {
namespace {

std::string number_or_null(const std::optional<std::int64_t>& number) {
    return number ? std::to_string(*number) : std::string("NULL");
}

std::string oid_array(const CopyPiece& piece) {
    std::string oids;
    for (const auto* table : piece.tables) oids += (oids.empty() ? "" : ",") + std::to_string(table->oid);
    return "'{" + oids + "}'";
}

std::optional<std::int64_t> number_of(const QueryRows& rows, int row, int column) {
    if (rows.is_null(row, column)) return std::nullopt;
    return rows.number(row, column);
}

// As they are known now; the definitions haven't changed since, so that each is known.
Result<std::vector<const SourceTable*>> tables_of(std::string_view oids, const std::unordered_map<std::string, const SourceTable*>& tables) {
    std::vector<const SourceTable*> found;
    while (!oids.empty()) {
        const auto length = std::min(oids.find(','), oids.size());
        const auto table = tables.find(std::string(oids.substr(0, length)));
        if (table == tables.end()) return fail(ErrorKind::conflict, "a table of the copy is no longer there");
        found.push_back(table->second);
        oids.remove_prefix(std::min(length + 1, oids.size()));
    }
    return found;
}

}  // namespace

Result<void> create_piece_journal(ServerSession& target, const MoveServers& servers, const std::vector<CopyPiece>& pieces,
                                  const std::string& slot_snapshot) {
    const auto schema = quote_ident(servers.artefact());
    std::string rows;
    for (const auto& piece : pieces) {
        rows += (rows.empty() ? "; INSERT INTO " + schema + ".pieces (number, tables, above, up_to, in_parts) VALUES (" : std::string(", (")) +
                std::to_string(piece.number) + ", " + oid_array(piece) + ", " + number_or_null(piece.range.above) + ", " +
                number_or_null(piece.range.up_to) + (piece.in_parts ? ", true)" : ", false)");
    }
    PP_TRY(target.exec("BEGIN; CREATE TABLE " + schema +
                       ".copying (attempt int NOT NULL, fruitless int NOT NULL, slot_snapshot text NOT NULL, closed bool NOT NULL DEFAULT false); INSERT INTO " + schema +
                       ".copying VALUES (0, 0, " + quote_literal(slot_snapshot) + "); CREATE TABLE " + schema +
                       ".pieces (number int PRIMARY KEY, tables oid[] NOT NULL, above bigint, up_to bigint, in_parts bool NOT NULL, attempt int, snapshot text, rows bigint, bytes bigint)" +
                       rows + "; COMMIT"));
    return {};
}

Result<bool> has_open_piece_journal(ServerSession& target, const MoveServers& servers) {
    const auto copying = quote_ident(servers.artefact()) + ".copying";
    auto exists = target.exec("SELECT pg_catalog.to_regclass($1) IS NOT NULL", {copying});
    if (!exists) return exists.error();
    if (!exists->flag(0, 0)) return false;
    auto open = target.exec("SELECT FROM " + copying + " WHERE NOT closed");
    if (!open) return open.error();
    return !open->empty();
}

Result<void> close_piece_journal(ServerSession& target, const MoveServers& servers) {
    PP_TRY(target.exec("UPDATE " + quote_ident(servers.artefact()) + ".copying SET closed = true"));
    return {};
}

Result<std::vector<JournaledPiece>> read_pieces(ServerSession& target, const MoveServers& servers, const std::vector<SourceTable>& tables) {
    std::unordered_map<std::string, const SourceTable*> by_oid;
    for (const auto& table : tables) by_oid.emplace(std::to_string(table.oid), &table);
    auto rows = target.exec("SELECT number, array_to_string(tables, ','), above, up_to, snapshot, rows, bytes, in_parts FROM " +
                            quote_ident(servers.artefact()) + ".pieces ORDER BY number");
    if (!rows) return rows.error();
    std::vector<JournaledPiece> pieces;
    for (int row = 0; row < rows->count(); ++row) {
        auto of_piece = tables_of(rows->text(row, 1), by_oid);
        if (!of_piece) return of_piece.error();
        auto& piece = pieces.emplace_back();
        piece.piece = {static_cast<std::uint32_t>(rows->number(row, 0)), *std::move(of_piece), {number_of(*rows, row, 2), number_of(*rows, row, 3)},
                       rows->flag(row, 7)};
        if (rows->is_null(row, 4)) continue;
        piece.snapshot = RowSnapshot::parse(rows->text(row, 4));
        if (!piece.snapshot) return fail(ErrorKind::internal, "a snapshot of the copy can't be read");
        piece.copied = {static_cast<std::uint64_t>(rows->number(row, 5)), static_cast<std::uint64_t>(rows->number(row, 6))};
    }
    return pieces;
}

Result<CopyAttempt> begin_copy_attempt(ServerSession& target, const MoveServers& servers, const std::vector<SourceTable>& tables) {
    const auto schema = quote_ident(servers.artefact());
    auto begun = target.exec("UPDATE " + schema + ".copying AS c SET attempt = c.attempt + 1, fruitless = CASE WHEN c.attempt = 0 OR EXISTS "
                             "(SELECT FROM " + schema + ".pieces AS p WHERE p.attempt = c.attempt) THEN 0 ELSE c.fruitless + 1 END "
                             "RETURNING attempt, fruitless, slot_snapshot");
    if (!begun) return begun.error();
    if (begun->count() != 1) return fail(ErrorKind::conflict, "the copy's row on the target is missing");
    CopyAttempt attempt{static_cast<std::uint32_t>(begun->number(0, 0)), static_cast<std::uint32_t>(begun->number(0, 1)),
                        begun->string(0, 2), {}, {}};
    auto pieces = read_pieces(target, servers, tables);
    if (!pieces) return pieces.error();
    attempt.pieces = *std::move(pieces);
    for (const auto& piece : attempt.pieces) {
        attempt.copied.rows += piece.copied.rows;
        attempt.copied.bytes += piece.copied.bytes;
    }
    return attempt;
}

Result<void> stay_latest(ServerSession& target, const MoveServers& servers, std::uint32_t attempt) {
    auto latest = target.exec("SELECT 1 FROM " + quote_ident(servers.artefact()) + ".copying WHERE attempt = " + std::to_string(attempt) +
                              " FOR SHARE");
    if (!latest) return latest.error();
    if (latest->empty()) return fail(ErrorKind::cancelled, "this copy is gone on with elsewhere");
    return {};
}

Result<void> note_piece(ServerSession& target, const MoveServers& servers, std::uint32_t attempt, std::uint32_t piece, const std::string& snapshot,
                        const CopiedRows& copied) {
    auto noted = target.exec("UPDATE " + quote_ident(servers.artefact()) + ".pieces SET attempt = " + std::to_string(attempt) + ", snapshot = " +
                             quote_literal(snapshot) + ", rows = " + std::to_string(copied.rows) + ", bytes = " + std::to_string(copied.bytes) + " WHERE number = " + std::to_string(piece) + " AND snapshot IS NULL");
    if (!noted) return noted.error();
    if (noted->affected() != 1) return fail(ErrorKind::internal, "a piece of the copy was there already");
    return {};
}

}  // namespace pgporter
