// Where large tables are split for their copy: asked of the source's statistics. On the move's thread.
#pragma once

#include <vector>

#include "admin/mover/copy_pieces.hpp"
#include "admin/mover/server_session.hpp"

namespace pgporter {

// Of those that are large, have an integer key, and whose rows lie in its order, more or less: of others each range would be
// collected from all over the table.
[[nodiscard]] Result<SplitBounds> read_split_bounds(ServerSession& source, const std::vector<SourceTable>& tables, const PieceSizes& sizes);

}  // namespace pgporter
