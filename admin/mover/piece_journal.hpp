// PieceJournal: which pieces of a copy are on the target, told by tables on the target that are written in the same transactions as the rows,
// so that both are there or neither. Tells one who copies from another who was thought to be gone: what isn't of the latest attempt stores
// nothing. Functions on the caller's session and thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "admin/mover/copy_pieces.hpp"
#include "admin/mover/copy_stream.hpp"
#include "admin/mover/move_servers.hpp"
#include "admin/mover/row_snapshot.hpp"

namespace pgporter {

struct JournaledPiece {
    CopyPiece piece;
    std::optional<RowSnapshot> snapshot;  // in whose eyes its rows were copied; none: they weren't, or not all
    CopiedRows copied;
};

struct CopyAttempt {
    std::uint32_t number = 0;
    std::uint32_t fruitless = 0;     // attempts in a row, before this one, that finished no piece
    std::string slot_snapshot;       // what was committed when the slot began to collect changes, as RowSnapshot reads it
    CopiedRows copied;               // in the pieces that are there
    std::vector<JournaledPiece> pieces;
};

// It stands beside the progress table. Open: what it tells of can be gone on with.
[[nodiscard]] Result<bool> has_open_piece_journal(ServerSession& target, const MoveServers& servers);
[[nodiscard]] Result<void> close_piece_journal(ServerSession& target, const MoveServers& servers);

[[nodiscard]] Result<void> create_piece_journal(ServerSession& target, const MoveServers& servers, const std::vector<CopyPiece>& pieces,
                                                const std::string& slot_snapshot);
[[nodiscard]] Result<std::vector<JournaledPiece>> read_pieces(ServerSession& target, const MoveServers& servers,
                                                              const std::vector<SourceTable>& tables);
// From here on what earlier attempts still try to store is refused. Waits for what they are just storing: end their sessions before.
[[nodiscard]] Result<CopyAttempt> begin_copy_attempt(ServerSession& target, const MoveServers& servers, const std::vector<SourceTable>& tables);

// Parts of a transaction on the target. cancelled: another attempt has begun.
[[nodiscard]] Result<void> stay_latest(ServerSession& target, const MoveServers& servers, std::uint32_t attempt);
[[nodiscard]] Result<void> note_piece(ServerSession& target, const MoveServers& servers, std::uint32_t attempt, std::uint32_t piece,
                                      const std::string& snapshot, const CopiedRows& copied);

}  // namespace pgporter
