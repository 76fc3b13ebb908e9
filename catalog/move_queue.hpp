// Who is next in line: moves in state `planned` wait for their turn, the oldest first, over all instances of a catalog. Pure. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "catalog/move.hpp"

namespace pgporter {

struct QueueLimits {
    std::uint32_t moves_max = 1;             // at work at once
    std::uint32_t moves_per_source_max = 1;  // of these, from one source cluster
};

// What the queue has to know of a move that isn't finished.
struct QueueEntry {
    MoveId move;
    MoveState state = MoveState::planned;
    std::string source_cluster;
};

// It takes one of the places: it burdens servers. One that only follows its way back, or waits for its completion or for a server
// that it can't be undone on, doesn't.
[[nodiscard]] bool is_at_work(MoveState state);

// The oldest one whose source cluster has a place left; one that has to wait for its cluster doesn't hold up those of others.
[[nodiscard]] std::optional<MoveId> next_in_line(const std::vector<QueueEntry>& moves, const QueueLimits& limits);

[[nodiscard]] std::size_t waiting_in_line(const std::vector<QueueEntry>& moves);

}  // namespace pgporter
