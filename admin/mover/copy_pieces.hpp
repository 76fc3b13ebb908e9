// The pieces in which a tenant's rows are copied: each is read by one snapshot of its own, so that none is held for long, and is done or not,
// so that a copy that was interrupted goes on with the rest. Several small tables are one piece; a large one is a piece of its own, or, where
// its key is an integer that grows as its rows come, several by ranges of it. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "admin/mover/schema_tables.hpp"

namespace pgporter {

// above < key <= up_to
struct KeyRange {
    std::optional<std::int64_t> above;  // none: from the first
    std::optional<std::int64_t> up_to;  // none: to the last, also of those that are yet to come
    [[nodiscard]] bool contains(std::int64_t key) const { return (!above || key > *above) && (!up_to || key <= *up_to); }
    [[nodiscard]] bool is_all() const { return !above && !up_to; }
};

struct CopyPiece {
    std::uint32_t number = 0;  // from 1
    std::vector<const SourceTable*> tables;
    KeyRange range;         // not all: of the only table's split_column()
    bool in_parts = false;  // the only table is read and stored by several at once: what is stored of it when they are interrupted must go
};

// What one connection reads at a time: of a large table's pages [first_page, end_page); end_page 0: to the end, however far that is by now.
struct CopyPart {
    const SourceTable* table = nullptr;
    KeyRange range;
    std::uint64_t first_page = 0;
    std::uint64_t end_page = 0;
    // All of the table at once, into one that the same transaction has emptied: its rows are stored as everybody's, and nobody who reads them
    // has to find out, and to write down, that they are committed.
    bool frozen = false;
};

struct PieceSizes {
    std::uint64_t part_pages_max = 8'192;     // 64 MB of the usual 8 kB pages
    std::uint64_t piece_pages_max = 131'072;  // of a table that can be split by its key
    std::uint32_t jobs = 1;
};

// The column by whose ranges a table may be split: the one that its key's index leads with, if it is an integer. None: it can't be.
[[nodiscard]] std::optional<std::size_t> split_column(const SourceTable& table);

// Ascending bounds between the ranges of a table. Those without any are one piece.
using SplitBounds = std::map<const SourceTable*, std::vector<std::int64_t>>;
// So many ranges, each of about the same number of rows, from a histogram of the column's values. Fewer where it doesn't have as many.
[[nodiscard]] std::vector<std::int64_t> bounds_from(const std::vector<std::int64_t>& histogram, std::uint64_t ranges);
// Into how many ranges a table of this size goes; 1: it is one piece.
[[nodiscard]] std::uint64_t ranges_of(const SourceTable& table, const PieceSizes& sizes);

// The largest first. A table goes in parts when it would keep one job busy long after the others have ended; else not, because those who fill
// one table wait for each other whenever it grows.
[[nodiscard]] std::vector<CopyPiece> plan_pieces(const std::vector<SourceTable>& tables, const SplitBounds& bounds, const PieceSizes& sizes);
// `own_tables`: made by this move, nobody else has rows there.
[[nodiscard]] std::vector<CopyPart> parts_of(const CopyPiece& piece, std::uint64_t part_pages_max, bool own_tables);

// In which transaction's eyes; the locks come before it, so that no TRUNCATE, which every snapshot sees, comes between it and the reading.
[[nodiscard]] std::string lock_statement(const CopyPiece& piece);
[[nodiscard]] std::string copy_out_statement(const CopyPart& part);
[[nodiscard]] std::string copy_in_statement(const CopyPart& part);
// The condition that is true of a range's rows, to be added to others.
[[nodiscard]] std::string range_condition(const SourceTable& table, const KeyRange& range);

}  // namespace pgporter
