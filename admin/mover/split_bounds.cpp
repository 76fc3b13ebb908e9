#include "admin/mover/split_bounds.hpp"

#include <charconv>

namespace pgporter {
namespace {

constexpr const char* statistics_query =
    "SELECT array_to_string(histogram_bounds::text::bigint[], ',') FROM pg_catalog.pg_stats WHERE schemaname = $1 AND tablename = $2 AND "
    "attname = $3 AND NOT inherited AND abs(correlation) > 0.9 AND histogram_bounds IS NOT NULL";

std::vector<std::int64_t> numbers_in(std::string_view text) {
    std::vector<std::int64_t> numbers;
    const auto* end = text.data() + text.size();
    for (const auto* at = text.data(); at < end;) {
        std::int64_t number = 0;
        const auto [next, error] = std::from_chars(at, end, number);
        if (error != std::errc()) return {};
        numbers.push_back(number);
        at = next < end ? next + 1 : next;
    }
    return numbers;
}

}  // namespace

Result<SplitBounds> read_split_bounds(ServerSession& source, const std::vector<SourceTable>& tables, const PieceSizes& sizes) {
    SplitBounds bounds;
    for (const auto& table : tables) {
        const auto ranges = ranges_of(table, sizes);
        const auto column = split_column(table);
        if (ranges < 2 || !column) continue;
        auto rows = source.exec(statistics_query, {table.schema, table.name, table.columns[*column].name});
        if (!rows) return rows.error();
        if (rows->empty()) continue;
        bounds.emplace(&table, bounds_from(numbers_in(rows->text(0, 0)), ranges));
    }
    return bounds;
}

}  // namespace pgporter
