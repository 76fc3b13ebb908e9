// POST /v1/tenants/{name}:promote, :demote and :relocate: the quick refusals here, everything else is the mover's preflight.
#include "admin/api/json_views.hpp"
#include "admin/api/problem.hpp"
#include "admin/api/resources.hpp"

namespace pgporter {
namespace {

Result<void> check_names(const ApiPorts& ports, const MoveRequest& move) {
    const auto snapshot = ports.publisher.current();
    if (!snapshot) return fail(ErrorKind::unavailable, "the catalog hasn't been read yet");
    if (!snapshot->find_tenant(move.tenant)) {
        return fail(ErrorKind::not_found, "there is no tenant '" + move.tenant + "'", {}, "list them: pgporter tenants");
    }
    if (snapshot->find_cluster(move.cluster) == nullptr) {
        return fail(ErrorKind::not_found, "there is no cluster '" + move.cluster + "'", {},
                    "list them: pgporter clusters; add one to tenants.yaml and apply it");
    }
    return {};
}

}  // namespace

ApiResponse start_move(const ApiPorts& ports, const ApiRequest& request, MoveKind kind) {
    const auto body = parse_body(request);
    if (!body) return problem_response(body.error(), request.path);
    const auto promote = parse_promote(kind, request.params.at("name"), *body);
    if (!promote) return problem_response(promote.error(), request.path);
    const auto dry_run = bool_query(request, "dry_run");
    if (!dry_run) return problem_response(dry_run.error(), request.path);
    if (const auto known = check_names(ports, promote->move); !known) return problem_response(known.error(), request.path);

    if (*dry_run || promote->dry_run) {
        const auto report = ports.mover.preflight(promote->move);
        if (!report) return problem_response(report.error(), request.path);
        return json_response(200, view_of(*report, promote->move));
    }
    const auto move = ports.mover.start(promote->move);
    if (!move) {
        auto problem = problem_from(move.error());
        if (move.error().kind == ErrorKind::conflict) problem.next_steps.emplace_back("pgporter moves");
        return problem_response(problem, request.path);
    }
    auto response = json_response(202, view_of(*move));
    response.headers.emplace_back("Location", "/v1/moves/" + std::to_string(move->id.value));
    return response;
}

}  // namespace pgporter
