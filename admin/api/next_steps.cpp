#include "admin/api/next_steps.hpp"

namespace pgporter {
namespace {

std::string promote_command(const MoveRequest& request) {
    return "pgporter " + std::string(to_text(request.kind)) + " " + request.tenant + " --to " + request.cluster + "/" + request.database;
}

NextStep act(const MoveRecord& move, const std::string& verb, std::string why) {
    const auto id = std::to_string(move.id.value);
    return {std::move(why), "pgporter " + verb + " " + id, "POST /v1/moves/" + id + ":" + verb};
}

NextStep watch(const MoveRecord& move) {
    const auto id = std::to_string(move.id.value);
    return {"watch it", "pgporter move " + id + " --watch", "GET /v1/moves/" + id + "/events"};
}

}  // namespace

std::vector<NextStep> next_steps_of(const MoveRecord& move) {
    if (move.state == MoveState::completed || move.state == MoveState::rolled_back) return {};
    if (move.state == MoveState::aborting || move.state == MoveState::rolling_back || move.state == MoveState::flipped_back) return {watch(move)};
    if (move.state == MoveState::aborted) {
        return {{"see what is in the way now; the tenant stays where it was", promote_command(move.request) + " --dry-run",
                 "POST /v1/tenants/" + move.request.tenant + ":" + std::string(to_text(move.request.kind)) + "?dry_run=true"}};
    }
    if (move.state == MoveState::flipped) return {watch(move)};
    if (move.state == MoveState::reversing) {
        return {act(move, "rollback", "if the application isn't well: back to where the tenant came from, with all that was written since"),
                act(move, "complete", "when it is well: drops the tenant's data in the source database for good; there is no rollback after that")};
    }
    if (move.state == MoveState::opened) {
        return {act(move, "complete", "when the application is well: drops the tenant's data in the source database for good")};
    }
    std::vector<NextStep> steps{watch(move)};
    // A cutover may be asked for when the move waits for it, or when its own attempts gave way.
    if (move.state == MoveState::verify && (!move.request.cutover || move.progress.cutover_attempts > 0)) {
        steps.push_back(act(move, "cutover", "switch the tenant over now"));
    }
    steps.push_back(act(move, "cancel", "give it up; the tenant stays where it is"));
    return steps;
}

std::vector<NextStep> next_steps_of(const PreflightReport& report, const MoveRequest& request) {
    const std::string target = "POST /v1/tenants/" + request.tenant + ":" + std::string(to_text(request.kind));
    if (report.blockers.empty()) return {{"start the move", promote_command(request) + " --wait", target}};
    return {{"after the remedies, look again", promote_command(request) + " --dry-run", target + "?dry_run=true"}};
}

}  // namespace pgporter
