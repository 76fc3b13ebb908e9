#include "admin/mover/copy_pieces.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pgporter {
namespace {

bool is_integer(const TableColumn& column) {
    constexpr std::uint32_t int8 = 20;
    constexpr std::uint32_t int2 = 21;
    constexpr std::uint32_t int4 = 23;
    return column.type_oid == int2 || column.type_oid == int4 || column.type_oid == int8;
}

std::string column_list(const SourceTable& table) {
    std::string columns;
    for (const auto& column : table.columns) columns += (columns.empty() ? "" : ", ") + quote_ident(column.name);
    return columns;
}

void add_condition(std::string& where, const std::string& condition) {
    if (!condition.empty()) where += (where.empty() ? " WHERE " : " AND ") + condition;
}

}  // namespace

std::optional<std::size_t> split_column(const SourceTable& table) {
    // A tenant's rows of a shared table are found by the index on its column.
    if (!table.key_leader || table.tenant_column) return std::nullopt;
    return is_integer(table.columns[*table.key_leader]) ? table.key_leader : std::nullopt;
}

std::uint64_t ranges_of(const SourceTable& table, const PieceSizes& sizes) {
    if (table.pages_to_copy() <= sizes.piece_pages_max) return 1;
    // Small enough that all jobs have something to do until the end.
    const auto pages = std::max<std::uint64_t>(sizes.piece_pages_max / 4, 1);
    return (table.pages_to_copy() + pages - 1) / pages;
}

std::vector<std::int64_t> bounds_from(const std::vector<std::int64_t>& histogram, std::uint64_t ranges) {
    std::vector<std::int64_t> bounds;
    if (histogram.size() < 2) return bounds;
    const auto buckets = histogram.size() - 1;
    for (std::uint64_t range = 1; range < ranges; ++range) {
        const double at = static_cast<double>(range) * static_cast<double>(buckets) / static_cast<double>(ranges);
        const auto bucket = std::min(static_cast<std::size_t>(at), buckets - 1);
        // Unsigned: values are anywhere in the type's range.
        const auto low = static_cast<std::uint64_t>(histogram[bucket]);
        const auto width = static_cast<std::uint64_t>(histogram[bucket + 1]) - low;
        const double within = std::floor(static_cast<double>(width) * (at - static_cast<double>(bucket)));
        const auto bound = within >= static_cast<double>(width) ? histogram[bucket + 1]
                                                                : static_cast<std::int64_t>(low + static_cast<std::uint64_t>(within));
        if (bounds.empty() || bound > bounds.back()) bounds.push_back(bound);
    }
    return bounds;
}

std::vector<CopyPiece> plan_pieces(const std::vector<SourceTable>& tables, const SplitBounds& bounds, const PieceSizes& sizes) {
    struct Sized {
        CopyPiece piece;
        std::uint64_t pages = 0;
    };
    std::vector<Sized> planned;
    std::uint64_t all_pages = 0;
    for (const auto& table : tables) all_pages += table.pages_to_copy();
    const auto whole_pages_max = std::max<std::uint64_t>(sizes.part_pages_max, all_pages / sizes.jobs * 3 / 2);
    std::vector<const SourceTable*> small;
    std::uint64_t small_pages = 0;
    for (const auto& table : tables) {
        if (table.partitioned || table.columns.empty()) continue;
        const auto split = bounds.find(&table);
        if (split != bounds.end() && !split->second.empty()) {
            const auto ranges = split->second.size() + 1;
            for (std::size_t i = 0; i < ranges; ++i) {
                KeyRange range;
                if (i > 0) range.above = split->second[i - 1];
                if (i + 1 < ranges) range.up_to = split->second[i];
                planned.push_back({{0, {&table}, range, false}, table.pages_to_copy() / ranges + 1});
            }
        } else if (table.pages_to_copy() > sizes.part_pages_max) {
            // A tenant's rows in a large shared table are found by the index; part by part would read all of it.
            const bool in_parts = table.pages_to_copy() > whole_pages_max && table.pages > 1 && !table.tenant_index;
            planned.push_back({{0, {&table}, {}, in_parts}, table.pages_to_copy()});
        } else {
            small.push_back(&table);
            small_pages += table.pages_to_copy() + 1;
        }
    }
    // Small ones together, but not so that one job has all of them.
    const auto together = std::clamp<std::uint64_t>(small_pages / (std::uint64_t{sizes.jobs} * 4), 16, sizes.part_pages_max);
    std::stable_sort(small.begin(), small.end(), [](const auto* a, const auto* b) { return a->pages_to_copy() > b->pages_to_copy(); });
    Sized group;
    const auto end_group = [&] {
        if (!group.piece.tables.empty()) planned.push_back(std::exchange(group, {}));
    };
    for (const auto* table : small) {
        if (group.pages + table->pages_to_copy() + 1 > together) end_group();
        group.piece.tables.push_back(table);
        group.pages += table->pages_to_copy() + 1;
    }
    end_group();
    std::stable_sort(planned.begin(), planned.end(), [](const Sized& a, const Sized& b) { return a.pages > b.pages; });
    std::vector<CopyPiece> pieces;
    for (auto& [piece, pages] : planned) {
        piece.number = static_cast<std::uint32_t>(pieces.size() + 1);
        pieces.push_back(std::move(piece));
    }
    return pieces;
}

std::vector<CopyPart> parts_of(const CopyPiece& piece, std::uint64_t part_pages_max, bool own_tables) {
    std::vector<CopyPart> parts;
    if (!piece.in_parts) {
        const bool frozen = own_tables && piece.range.is_all();
        for (const auto* table : piece.tables) parts.push_back({table, piece.range, 0, 0, frozen});
        return parts;
    }
    const auto& table = *piece.tables.front();
    // By its own pages, so many that they come to as much together with the large values of their rows.
    const auto own_share = static_cast<double>(table.pages) / static_cast<double>(std::max<std::uint64_t>(table.pages_to_copy(), 1));
    const auto step = std::max<std::uint64_t>(static_cast<std::uint64_t>(static_cast<double>(part_pages_max) * own_share), 1);
    std::uint64_t first = 0;
    for (; table.pages > first + step; first += step) parts.push_back({&table, {}, first, first + step, false});
    parts.push_back({&table, {}, first, 0, false});
    return parts;
}

std::string lock_statement(const CopyPiece& piece) {
    std::string tables;
    for (const auto* table : piece.tables) tables += (tables.empty() ? "ONLY " : ", ONLY ") + table->qualified_name();
    return "LOCK TABLE " + tables + " IN ACCESS SHARE MODE";
}

std::string range_condition(const SourceTable& table, const KeyRange& range) {
    if (range.is_all()) return {};
    const auto column = quote_ident(table.columns[*split_column(table)].name);
    std::string condition;
    if (range.above) condition += column + " > " + std::to_string(*range.above);
    if (range.up_to) condition += (condition.empty() ? "" : " AND ") + column + " <= " + std::to_string(*range.up_to);
    return condition;
}

std::string copy_out_statement(const CopyPart& part) {
    std::string where = part.table->where();
    add_condition(where, range_condition(*part.table, part.range));
    if (part.first_page > 0) add_condition(where, "ctid >= '(" + std::to_string(part.first_page) + ",0)'");
    if (part.end_page > 0) add_condition(where, "ctid < '(" + std::to_string(part.end_page) + ",0)'");
    const std::string format = part.table->binary_copy() ? " (FORMAT binary)" : "";
    // Of a table as it is, without a query: the server spends less on each row.
    if (where.empty()) return "COPY " + part.table->qualified_name() + " (" + column_list(*part.table) + ") TO STDOUT" + format;
    return "COPY (SELECT " + column_list(*part.table) + " FROM ONLY " + part.table->qualified_name() + " AS t" + where + ") TO STDOUT" + format;
}

std::string copy_in_statement(const CopyPart& part) {
    const bool binary = part.table->binary_copy();
    const char* options = part.frozen ? (binary ? " (FORMAT binary, FREEZE)" : " (FREEZE)") : (binary ? " (FORMAT binary)" : "");
    return "COPY " + part.table->qualified_name() + " (" + column_list(*part.table) + ") FROM STDIN" + options;
}

}  // namespace pgporter
