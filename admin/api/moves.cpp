// The moves resource: what the mover knows, and the operator's verbs.
#include <charconv>

#include "admin/api/json_views.hpp"
#include "admin/api/problem.hpp"
#include "admin/api/resources.hpp"

namespace pgporter {
namespace {

constexpr std::size_t moves_listed_max = 1000;

Result<MoveId> requested_id(const ApiRequest& request) {
    const auto& text = request.params.at("id");
    std::uint64_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || value > std::uint64_t{INT64_MAX}) {
        return fail(ErrorKind::not_found, "there is no move '" + text + "'", {}, "list them: pgporter moves");
    }
    return MoveId(value);
}

template <class Act>
ApiResponse act_on_move(const ApiRequest& request, Act act) {
    const auto id = requested_id(request);
    if (!id) return problem_response(id.error(), request.path);
    const auto move = act(*id);
    if (!move) return problem_response(move.error(), request.path);
    return json_response(202, view_of(*move));
}

}  // namespace

Result<MoveRecord> find_requested_move(const ApiPorts& ports, const ApiRequest& request) {
    const auto id = requested_id(request);
    if (!id) return id.error();
    return ports.mover.find(*id);
}

ApiResponse list_moves(const ApiPorts& ports, const ApiRequest& request) {
    const auto limit = limit_query(request, 100, moves_listed_max);
    if (!limit) return problem_response(limit.error(), request.path);
    const auto unfinished = bool_query(request, "unfinished");
    if (!unfinished) return problem_response(unfinished.error(), request.path);
    const auto tenant = request.query.find("tenant");
    const auto moves = ports.mover.list();
    if (!moves) return problem_response(moves.error(), request.path);
    boost::json::array items;
    for (const auto& move : *moves) {
        if (items.size() == *limit) break;
        if (*unfinished && is_finished(move.state)) continue;
        if (tenant != request.query.end() && tenant->second != move.request.tenant) continue;
        items.push_back(view_of(move));
    }
    return json_response(200, boost::json::object{{"moves", std::move(items)}});
}

ApiResponse get_move(const ApiPorts& ports, const ApiRequest& request) {
    const auto move = find_requested_move(ports, request);
    if (!move) return problem_response(move.error(), request.path);
    return json_response(200, view_of(*move));
}

ApiResponse cancel_move(const ApiPorts& ports, const ApiRequest& request) {
    return act_on_move(request, [&](MoveId id) { return ports.mover.cancel(id); });
}

ApiResponse cutover_move(const ApiPorts& ports, const ApiRequest& request) {
    return act_on_move(request, [&](MoveId id) { return ports.mover.cutover(id); });
}

ApiResponse rollback_move(const ApiPorts& ports, const ApiRequest& request) {
    return act_on_move(request, [&](MoveId id) { return ports.mover.rollback(id); });
}

ApiResponse complete_move(const ApiPorts& ports, const ApiRequest& request) {
    const auto force = bool_query(request, "force");
    if (!force) return problem_response(force.error(), request.path);
    return act_on_move(request, [&](MoveId id) { return ports.mover.complete(id, *force ? Completion::unchecked : Completion::checked); });
}

}  // namespace pgporter
