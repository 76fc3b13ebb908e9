// PieceMap: which changes of the stream are in what was copied already. The stream begins before the first piece was read; what a piece's
// snapshot saw is in its rows, and isn't applied again. Complete once it is used, then immutable; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "admin/mover/copy_pieces.hpp"
#include "admin/mover/pgoutput.hpp"
#include "admin/mover/row_snapshot.hpp"

namespace pgporter {

// What of a change is still to be applied.
enum class Remainder {
    all,
    nothing,
    removal,   // an update that has taken a row to another piece, which has it there: only where it was it must go
    arrival,   // the other way round: where it was it is gone, and it must be put where it is now
    unknown    // the change doesn't fit the table's definition
};

class PieceMap {
  public:
    void add(const CopyPiece& piece, const RowSnapshot& snapshot);

    [[nodiscard]] Remainder remainder(const SourceTable& table, const pgoutput::Message& change, std::uint32_t transaction) const;
    // Of a TRUNCATE: the ranges whose rows must go; all of the table if one says so.
    [[nodiscard]] std::vector<KeyRange> to_empty(const SourceTable& table, std::uint32_t transaction) const;

  private:
    struct Piece {
        KeyRange range;
        std::shared_ptr<const RowSnapshot> snapshot;
    };
    [[nodiscard]] const Piece* piece_of(const SourceTable& table, const pgoutput::Tuple& row) const;

    std::unordered_map<std::uint32_t, std::vector<Piece>> pieces_;  // by the table's OID, in the order of their ranges
};

}  // namespace pgporter
