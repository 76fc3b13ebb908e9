#include "admin/mover/piece_map.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>

namespace pgporter {

using pgoutput::OldRow;

void PieceMap::add(const CopyPiece& piece, const RowSnapshot& snapshot) {
    const auto shared = std::make_shared<const RowSnapshot>(snapshot);
    for (const auto* table : piece.tables) {
        auto& pieces = pieces_[table->oid];
        const auto next = std::find_if(pieces.begin(), pieces.end(), [&](const Piece& each) { return each.range.above > piece.range.above; });
        pieces.insert(next, {piece.range, shared});
    }
}

const PieceMap::Piece* PieceMap::piece_of(const SourceTable& table, const pgoutput::Tuple& row) const {
    const auto found = pieces_.find(table.oid);
    if (found == pieces_.end()) return nullptr;
    const auto& pieces = found->second;
    if (pieces.size() == 1) return &pieces.front();
    const auto column = split_column(table);
    if (!column || *column >= row.size() || row[*column].kind != pgoutput::ValueKind::text) return nullptr;
    const auto text = row[*column].bytes;
    std::int64_t key = 0;
    const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), key);
    if (error != std::errc() || at != text.data() + text.size()) return nullptr;
    const auto next = std::partition_point(pieces.begin(), pieces.end(), [&](const Piece& each) { return !each.range.above || key > *each.range.above; });
    if (next == pieces.begin() || !std::prev(next)->range.contains(key)) return nullptr;
    return &*std::prev(next);
}

Remainder PieceMap::remainder(const SourceTable& table, const pgoutput::Message& change, std::uint32_t transaction) const {
    const auto* insert = std::get_if<pgoutput::Insert>(&change);
    const auto* update = std::get_if<pgoutput::Update>(&change);
    const auto* deletion = std::get_if<pgoutput::Delete>(&change);
    if (insert == nullptr && update == nullptr && deletion == nullptr) return Remainder::unknown;
    const auto* now_in = deletion != nullptr ? nullptr : piece_of(table, insert != nullptr ? insert->row : update->row);
    const bool has_moved = update != nullptr && update->old_kind != OldRow::none;
    const auto* was_in = insert != nullptr ? nullptr
                         : deletion != nullptr ? piece_of(table, deletion->old_row)
                         : has_moved           ? piece_of(table, update->old_row)
                                               : now_in;
    if ((insert == nullptr && was_in == nullptr) || (deletion == nullptr && now_in == nullptr)) return Remainder::unknown;
    const bool seen_gone = was_in == nullptr || was_in->snapshot->sees_wire(transaction);
    const bool seen_there = now_in == nullptr || now_in->snapshot->sees_wire(transaction);
    if (was_in == nullptr) return seen_there ? Remainder::nothing : Remainder::all;
    if (now_in == nullptr || seen_gone == seen_there) return seen_gone ? Remainder::nothing : Remainder::all;
    return seen_there ? Remainder::removal : Remainder::arrival;
}

std::vector<KeyRange> PieceMap::to_empty(const SourceTable& table, std::uint32_t transaction) const {
    const auto found = pieces_.find(table.oid);
    if (found == pieces_.end()) return {KeyRange{}};
    std::vector<KeyRange> ranges;
    for (const auto& piece : found->second) {
        if (!piece.snapshot->sees_wire(transaction)) ranges.push_back(piece.range);
    }
    if (ranges.size() == found->second.size()) return {KeyRange{}};
    return ranges;
}

}  // namespace pgporter
