// analyze_tables: the planner's statistics of what was copied, by several connections at once. Called on the move's
// thread; returns when all are done and on the disk. It must not: be in the way of the stream, which doesn't run yet.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "admin/mover/move_servers.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

// `tick` is called about every 200 ms on the calling thread.
[[nodiscard]] Result<void> analyze_tables(const MoveServers& servers, const std::vector<SourceTable>& tables, std::uint32_t jobs,
                                          const std::function<void()>& tick);

}  // namespace pgporter
