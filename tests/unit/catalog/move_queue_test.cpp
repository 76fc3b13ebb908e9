#include <doctest/doctest.h>

#include "catalog/move_queue.hpp"

using namespace pgporter;

namespace {

QueueEntry entry(std::uint64_t id, MoveState state, const char* source = "shared") {
    return {MoveId{id}, state, source};
}

}  // namespace

TEST_CASE("the oldest move is next, while there is a place") {
    using enum MoveState;
    const QueueLimits limits{.moves_max = 2, .moves_per_source_max = 2};
    CHECK_FALSE(next_in_line({}, limits).has_value());
    CHECK(next_in_line({entry(7, planned), entry(5, planned), entry(9, planned)}, limits) == MoveId{5});
    CHECK(next_in_line({entry(1, copy), entry(2, planned)}, limits) == MoveId{2});
    CHECK_FALSE(next_in_line({entry(1, copy), entry(2, verify), entry(3, planned)}, limits).has_value());
}

TEST_CASE("moves that only follow their way back, wait for an operator or for a server take no place") {
    using enum MoveState;
    const QueueLimits limits{.moves_max = 1, .moves_per_source_max = 1};
    for (const auto state : {opened, reversing, aborting, flipped_back}) {
        CAPTURE(to_text(state));
        CHECK(next_in_line({entry(1, state), entry(2, planned)}, limits) == MoveId{2});
    }
    for (const auto state : {preflight, schema, gate, slot, copy, index, catchup, verify, reverse_slot, hold, fenced, drained, flipped,
                             rolling_back}) {
        CAPTURE(to_text(state));
        CHECK_FALSE(next_in_line({entry(1, state), entry(2, planned)}, limits).has_value());
    }
}

TEST_CASE("one source's moves don't hold up those of another") {
    using enum MoveState;
    const QueueLimits limits{.moves_max = 3, .moves_per_source_max = 1};
    CHECK(next_in_line({entry(1, copy, "a"), entry(2, planned, "a"), entry(3, planned, "b"), entry(4, planned, "b")}, limits) == MoveId{3});
    CHECK_FALSE(next_in_line({entry(1, copy, "a"), entry(2, planned, "a")}, limits).has_value());
    CHECK(waiting_in_line({entry(1, copy, "a"), entry(2, planned, "a"), entry(3, planned, "b")}) == 2);
}
