// Fingerprints: queries that give the same answer on source and target exactly when the rows are the same (but for a
// collision of two 64-bit hashes, summed over all rows), and the comparison of two answers. Of shared tables the query
// takes the tenant's rows only; of the tenant's own database it takes all, since nobody else's may be there. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "admin/mover/changed_rows.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

struct Difference {
    const SourceTable* table = nullptr;
    std::uint64_t source_rows = 0;
    std::uint64_t target_rows = 0;
};
[[nodiscard]] std::string describe(const std::vector<Difference>& differences);

enum class Side { source, target };

// Of all rows: one row of count and two sums.
[[nodiscard]] std::string fingerprint_query(const SourceTable& table, Side side);

// Of changed rows: several queries of bounded size, each with one row per listed table, in order.
struct ChangeQuery {
    std::string source_sql;
    std::string target_sql;
    std::vector<const SourceTable*> tables;
    std::vector<bool> whole;
};
// `unnest(..) AS k (..) JOIN ONLY table AS t ON ..`: the rows with these keys; a list of values for each column of the key.
[[nodiscard]] std::string rows_with_keys(const SourceTable& table, const std::vector<std::vector<std::string>>& columns);
[[nodiscard]] std::vector<ChangeQuery> change_queries(const ChangedRows& changed, std::size_t keys_per_query_max);

}  // namespace pgporter
