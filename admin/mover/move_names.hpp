// The names of what a move makes in databases. Each contains the move's id, so that what is found is known to be whose.
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/ids.hpp"

namespace pgporter {

// A move goes there, and until it is completed there is a way back: the same things again, from the target to the source.
enum class Way { there, back };

// Slot, publication and the schemas on both sides share one name: they are in different name spaces.
[[nodiscard]] inline std::string artefact_name(MoveId move, Way way = Way::there) {
    return (way == Way::there ? "pgporter_move_" : "pgporter_back_") + std::to_string(move.value);
}
[[nodiscard]] inline std::string fence_name(MoveId move, Way way = Way::there) {
    return (way == Way::there ? "pgporter_fence_" : "pgporter_back_fence_") + std::to_string(move.value);
}
[[nodiscard]] inline Way way_of_artefact(std::string_view name) {
    return name.starts_with("pgporter_back_") ? Way::back : Way::there;
}
// Temporary slots: a new name for each, since the server may still be busy dropping the last one.
[[nodiscard]] inline std::string barrier_name(MoveId move, Way way, std::uint32_t number) {
    return artefact_name(move, way) + "_barrier_" + std::to_string(number);
}
// The comment by which a database that a move made is told from others of its name. `made_as`: what it was called when it was made, which
// no other database of any move ever was.
[[nodiscard]] inline std::string database_mark(std::string_view made_as) {
    return "pgporter: made as " + std::string(made_as);
}
// The content of the message that begins each transaction in which a move applies changes: whoever follows that server's
// stream knows by it that they aren't the application's.
inline constexpr std::string_view applied_mark = "applied";
// The setting by which a session that applies changes tells fences which artefact's stream it applies.
inline constexpr const char* applies_setting = "pgporter.applies";

}  // namespace pgporter
