#include "catalog/move.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace pgporter;
using enum MoveState;

namespace {

constexpr MoveState all_states[] = {planned,      preflight,   schema,    gate,     slot,         copy,
                                    index,        catchup,     verify,    reverse_slot, hold,     fenced,
                                    drained,      flipped,     opened,    reversing, rolling_back, flipped_back,
                                    rolled_back,  completed,   aborting,  aborted};

// Written out on its own, not computed: this is what the header promises.
const std::set<std::pair<MoveState, MoveState>> legal = {
    {planned, preflight}, {preflight, schema}, {schema, gate},      {gate, slot},          {slot, copy},
    {copy, index},        {index, catchup},    {catchup, verify},   {verify, reverse_slot}, {reverse_slot, hold}, {hold, fenced},
    {reverse_slot, verify}, {reverse_slot, aborting},
    {opened, reversing}, {reversing, opened}, {reversing, rolling_back}, {rolling_back, reversing},
    {rolling_back, flipped_back}, {flipped_back, rolled_back},
    {fenced, drained},    {drained, flipped},  {flipped, opened},   {opened, completed},   {hold, verify},
    {fenced, verify},     {drained, verify},   {planned, aborting}, {preflight, aborting}, {schema, aborting},
    {gate, aborting},     {slot, aborting},    {copy, aborting},    {index, aborting},     {catchup, aborting},
    {verify, aborting},   {hold, aborting},    {fenced, aborting},  {drained, aborting},   {aborting, aborted}};

}  // namespace

TEST_CASE("every pair of states") {
    for (const auto from : all_states) {
        for (const auto to : all_states) {
            CAPTURE(to_text(from));
            CAPTURE(to_text(to));
            CHECK(may_follow(from, to) == legal.contains({from, to}));
        }
    }
}

TEST_CASE("finished states lead nowhere, and nothing after the flip aborts") {
    for (const auto state : all_states) {
        CAPTURE(to_text(state));
        bool leads_somewhere = false;
        for (const auto to : all_states) leads_somewhere = leads_somewhere || may_follow(state, to);
        CHECK(is_finished(state) == !leads_somewhere);
        const bool after_flip =
            state == flipped || state == opened || state == reversing || state == rolling_back || state == flipped_back ||
            state == rolled_back || state == completed || state == aborting || state == aborted;
        CHECK(is_before_flip(state) == !after_flip);
        CHECK(move_state_from(to_text(state)) == state);
    }
    CHECK_FALSE(move_state_from("Planned").has_value());
}

TEST_CASE("artefacts") {
    using enum ArtefactKind;
    for (const auto kind : {replication_slot, publication, fence_triggers, fence_function, progress_table,
                            target_schema, target_database}) {
        CHECK(artefact_kind_from(to_text(kind)) == kind);
    }
    for (const auto when : {CleanupWhen::always, CleanupWhen::after_abort})
        CHECK(cleanup_when_from(to_text(when)) == when);
    CHECK_FALSE(artefact_kind_from("slot").has_value());
    CHECK_FALSE(cleanup_when_from("never").has_value());
}

TEST_CASE("source and target tell what kind of move it is") {
    using enum PlacementKind;
    CHECK(kind_of_move(schema, database) == MoveKind::promote);
    CHECK(kind_of_move(rows, database) == MoveKind::promote);
    CHECK(kind_of_move(database, schema) == MoveKind::demote);
    CHECK(kind_of_move(database, database) == MoveKind::relocate);
}
