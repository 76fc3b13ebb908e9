#include "catalog/move_queue.hpp"

#include <algorithm>
#include <map>

#include "base/assert.hpp"

namespace pgporter {

bool is_at_work(MoveState state) {
    switch (state) {
        case MoveState::preflight:
        case MoveState::schema:
        case MoveState::gate:
        case MoveState::slot:
        case MoveState::copy:
        case MoveState::index:
        case MoveState::catchup:
        case MoveState::verify:
        case MoveState::reverse_slot:
        case MoveState::hold:
        case MoveState::fenced:
        case MoveState::drained:
        case MoveState::flipped:
        case MoveState::rolling_back:
            return true;
        case MoveState::planned:
        case MoveState::opened:
        case MoveState::reversing:
        case MoveState::flipped_back:
        case MoveState::rolled_back:
        case MoveState::completed:
        case MoveState::aborting:
        case MoveState::aborted:
            return false;
    }
    PP_ASSERT(false);
}

std::optional<MoveId> next_in_line(const std::vector<QueueEntry>& moves, const QueueLimits& limits) {
    std::size_t at_work = 0;
    std::map<std::string, std::size_t> of_source;
    for (const auto& move : moves) {
        if (!is_at_work(move.state)) continue;
        ++at_work;
        ++of_source[move.source_cluster];
    }
    if (at_work >= limits.moves_max) return std::nullopt;
    std::optional<MoveId> next;
    for (const auto& move : moves) {
        if (move.state != MoveState::planned || of_source[move.source_cluster] >= limits.moves_per_source_max) continue;
        if (!next || move.move < *next) next = move.move;
    }
    return next;
}

std::size_t waiting_in_line(const std::vector<QueueEntry>& moves) {
    return static_cast<std::size_t>(
        std::count_if(moves.begin(), moves.end(), [](const QueueEntry& move) { return move.state == MoveState::planned; }));
}

}  // namespace pgporter
