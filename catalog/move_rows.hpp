// The rows of moves and cleanup records as values. For the store alone. Control-plane threads only.
#pragma once

#include <string>

#include "base/result.hpp"
#include "catalog/move.hpp"
#include "catalog/pg_connection.hpp"

namespace pgporter {

// The columns of a move, of a table that is called m; and the move in such a row.
[[nodiscard]] const std::string& move_columns();
[[nodiscard]] Result<MoveRecord> move_from_row(const PgResult& result, int row);

[[nodiscard]] const std::string& cleanup_columns();  // of a table that is called c
[[nodiscard]] Result<CleanupRecord> cleanup_from_row(const PgResult& result, int row);

}  // namespace pgporter
