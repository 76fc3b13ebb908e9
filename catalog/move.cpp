#include "catalog/move.hpp"

#include <initializer_list>

#include "base/assert.hpp"

namespace pgporter {
namespace {

template <class E>
std::optional<E> from_text(std::string_view text, std::initializer_list<E> all) {
    for (const E candidate : all) {
        if (to_text(candidate) == text) return candidate;
    }
    return std::nullopt;
}

}  // namespace

std::string_view to_text(MoveKind kind) {
    switch (kind) {
        case MoveKind::promote:
            return "promote";
        case MoveKind::demote:
            return "demote";
        case MoveKind::relocate:
            return "relocate";
    }
    PP_ASSERT(false);
}

MoveKind kind_of_move(PlacementKind source, PlacementKind target) {
    if (source != PlacementKind::database) return MoveKind::promote;
    return target == PlacementKind::database ? MoveKind::relocate : MoveKind::demote;
}

std::string_view to_text(MoveState state) {
    switch (state) {
        case MoveState::planned:
            return "planned";
        case MoveState::preflight:
            return "preflight";
        case MoveState::schema:
            return "schema";
        case MoveState::gate:
            return "gate";
        case MoveState::slot:
            return "slot";
        case MoveState::copy:
            return "copy";
        case MoveState::index:
            return "index";
        case MoveState::catchup:
            return "catchup";
        case MoveState::verify:
            return "verify";
        case MoveState::reverse_slot:
            return "reverse_slot";
        case MoveState::hold:
            return "hold";
        case MoveState::fenced:
            return "fenced";
        case MoveState::drained:
            return "drained";
        case MoveState::flipped:
            return "flipped";
        case MoveState::opened:
            return "opened";
        case MoveState::reversing:
            return "reversing";
        case MoveState::rolling_back:
            return "rolling_back";
        case MoveState::flipped_back:
            return "flipped_back";
        case MoveState::rolled_back:
            return "rolled_back";
        case MoveState::completed:
            return "completed";
        case MoveState::aborting:
            return "aborting";
        case MoveState::aborted:
            return "aborted";
    }
    PP_ASSERT(false);
}

std::optional<MoveState> move_state_from(std::string_view text) {
    using enum MoveState;
    return from_text(text, {planned, preflight, schema, gate, slot, copy, index, catchup, verify, reverse_slot, hold,
                            fenced, drained, flipped, opened, reversing, rolling_back, flipped_back, rolled_back,
                            completed, aborting, aborted});
}

// Before the flip: the next state, or aborting. A cutover attempt (reverse_slot to drained) may give way to verify.
// After it the move ends there (completed) or back where it began (rolled_back); a rollback may give way to reversing.
bool may_follow(MoveState from, MoveState to) {
    using enum MoveState;
    switch (from) {
        case planned:
            return to == preflight || to == aborting;
        case preflight:
            return to == schema || to == aborting;
        case schema:
            return to == gate || to == aborting;
        case gate:
            return to == slot || to == aborting;
        case slot:
            return to == copy || to == aborting;
        case copy:
            return to == index || to == aborting;
        case index:
            return to == catchup || to == aborting;
        case catchup:
            return to == verify || to == aborting;
        case verify:
            return to == reverse_slot || to == aborting;
        case reverse_slot:
            return to == hold || to == verify || to == aborting;
        case hold:
            return to == fenced || to == verify || to == aborting;
        case fenced:
            return to == drained || to == verify || to == aborting;
        case drained:
            return to == flipped || to == verify || to == aborting;
        case flipped:
            return to == opened;
        case opened:
            return to == reversing || to == completed;
        case reversing:
            return to == rolling_back || to == opened;
        case rolling_back:
            return to == flipped_back || to == reversing;
        case flipped_back:
            return to == rolled_back;
        case rolled_back:
        case completed:
            return false;
        case aborting:
            return to == aborted;
        case aborted:
            return false;
    }
    PP_ASSERT(false);
}

bool is_finished(MoveState state) {
    return state == MoveState::completed || state == MoveState::aborted || state == MoveState::rolled_back;
}

bool is_before_flip(MoveState state) {
    return may_follow(state, MoveState::aborting);
}

bool has_request_failed(const MoveRecord& move) {
    const auto& note = move.progress.note;
    return move.state == MoveState::reversing && (note.starts_with(rollback_failed_note) || note.starts_with(not_completed_note));
}

std::string_view to_text(ArtefactKind kind) {
    switch (kind) {
        case ArtefactKind::replication_slot:
            return "replication_slot";
        case ArtefactKind::publication:
            return "publication";
        case ArtefactKind::fence_triggers:
            return "fence_triggers";
        case ArtefactKind::fence_function:
            return "fence_function";
        case ArtefactKind::progress_table:
            return "progress_table";
        case ArtefactKind::target_schema:
            return "target_schema";
        case ArtefactKind::target_database:
            return "target_database";
        case ArtefactKind::catalog_database:
            return "catalog_database";
        case ArtefactKind::target_rows:
            return "target_rows";
    }
    PP_ASSERT(false);
}

std::optional<ArtefactKind> artefact_kind_from(std::string_view text) {
    using enum ArtefactKind;
    return from_text(text, {replication_slot, publication, fence_triggers, fence_function, progress_table,
                            target_schema, target_database, catalog_database, target_rows});
}

std::string_view to_text(CleanupWhen when) {
    switch (when) {
        case CleanupWhen::always:
            return "always";
        case CleanupWhen::after_abort:
            return "after_abort";
    }
    PP_ASSERT(false);
}

std::optional<CleanupWhen> cleanup_when_from(std::string_view text) {
    return from_text(text, {CleanupWhen::always, CleanupWhen::after_abort});
}

}  // namespace pgporter
