// The names of what a move makes in databases. Each contains the move's id, so that what is found is known to be whose.
// Pure.
#pragma once

#include <cstdint>
#include <string>

#include "base/ids.hpp"

namespace pgporter {

// Slot, publication and the schemas on both sides share one name: they are in different name spaces.
[[nodiscard]] inline std::string artefact_name(MoveId move) {
    return "pgporter_move_" + std::to_string(move.value);
}
[[nodiscard]] inline std::string fence_name(MoveId move) {
    return "pgporter_fence_" + std::to_string(move.value);
}
// Temporary slots: a new name for each, since the server may still be busy dropping the last one.
[[nodiscard]] inline std::string barrier_name(MoveId move, std::uint32_t number) {
    return artefact_name(move) + "_barrier_" + std::to_string(number);
}

}  // namespace pgporter
