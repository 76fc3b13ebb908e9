#include "admin/api/dispatch.hpp"

#include <chrono>
#include <exception>
#include <string>

#include "admin/api/auth.hpp"
#include "admin/api/openapi.hpp"
#include "admin/api/problem.hpp"
#include "admin/api/resources.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

Problem no_route(std::string_view path) {
    return {404, "unknown_route", "No such address", "nothing is at " + std::string(path), "GET /openapi.json lists every address"};
}

ApiResponse wrong_method(const RouteMatch& match, std::string_view method, std::string_view path) {
    std::string allow;
    for (const auto allowed : match.allowed) {
        if (!allow.empty()) allow += ", ";
        allow += allowed;
    }
    auto response = problem_response(
        Problem{405, "method_not_allowed", "This method isn't allowed here", std::string(method) + " isn't allowed; allowed: " + allow},
        path);
    response.headers.emplace_back("Allow", allow);
    return response;
}

ApiResponse key_refused(const ApiRequest& request, IdempotencyCache::Outcome outcome) {
    Problem problem{409, "idempotency_in_flight", "This request is being worked on", "the first request with this key isn't answered yet",
                    "ask again in a moment"};
    if (outcome == IdempotencyCache::Outcome::mismatch) {
        problem = {422, "idempotency_mismatch", "This key was used for another request",
                   "the Idempotency-Key came before with another address or body", "use a new key for a new request"};
    } else if (outcome == IdempotencyCache::Outcome::full) {
        problem = {503, "idempotency_full", "Too many requests at once", "no room to remember another Idempotency-Key"};
    }
    return problem_response(problem, request.path);
}

}  // namespace

Dispatcher::Admission Dispatcher::admit(const HeaderView& header) const {
    Admission admission;
    const auto question = header.target.find('?');
    const auto path = header.target.substr(0, question);
    const auto refuse = [&](const Problem& problem) { admission.refusal = problem_response(problem, path); };
    if (const auto problem = check_host(ports_.config.admin, header.host)) {
        refuse(*problem);
        return admission;
    }
    // HEAD is GET without the body; the connection leaves the body out.
    const std::string_view method = header.method == "HEAD" ? "GET" : header.method;
    auto match = match_route(method, path);
    // Nobody learns without a token which addresses exist under /v1.
    const auto access = match.route != nullptr ? match.route->access : path.starts_with("/v1") ? Access::token : Access::open;
    if (const auto problem = check_token(ports_.config.admin, access, header.authorization)) {
        refuse(*problem);
        return admission;
    }
    if (match.route == nullptr) {
        admission.refusal = match.allowed.empty() ? problem_response(no_route(path), path) : wrong_method(match, header.method, path);
        return admission;
    }
    auto query = parse_query(question == std::string_view::npos ? std::string_view{} : header.target.substr(question + 1));
    if (!query) {
        refuse(problem_from(fail(ErrorKind::invalid, "the query can't be decoded")));
        return admission;
    }
    admission.route = match.route;
    admission.request.method = std::string(method);
    admission.request.target = std::string(header.target);
    admission.request.path = std::string(path);
    admission.request.query = std::move(*query);
    admission.request.params = std::move(match.params);
    return admission;
}

ApiResponse Dispatcher::answer(const Route& route, const ApiRequest& request) {
    const auto begin = std::chrono::steady_clock::now();
    ApiResponse response;
    try {
        response = request.method == "POST" && !request.idempotency_key.empty() ? answer_once(route, request) : call(route, request);
    } catch (const std::exception& bug) {
        log::error("api_bug", {{"path", request.path}, {"error", bug.what()}});
        response = problem_response(fail(ErrorKind::internal, "the request failed by a bug; the log says more"), request.path);
    }
    count(route, response);
    if (request.method != "GET") {
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
        log::info("api_request", {{"method", request.method},
                                  {"path", request.path},
                                  {"status", std::to_string(response.status)},
                                  {"ms", std::to_string(ms)}});
    }
    return response;
}

ApiResponse Dispatcher::answer_once(const Route& route, const ApiRequest& request) {
    if (request.idempotency_key.size() > IdempotencyCache::key_bytes_max) {
        return problem_response(fail(ErrorKind::invalid, "the Idempotency-Key is longer than 255 bytes"), request.path);
    }
    auto begun = idempotency_.begin(request);
    if (begun.outcome == IdempotencyCache::Outcome::replay) {
        begun.answer.headers.emplace_back("Idempotency-Replayed", "true");
        return std::move(begun.answer);
    }
    if (begun.outcome != IdempotencyCache::Outcome::proceed) return key_refused(request, begun.outcome);
    try {
        auto response = call(route, request);
        if (response.status < 500 && response.status != 429) {
            idempotency_.remember(request.idempotency_key, response);
        } else {
            idempotency_.forget(request.idempotency_key);
        }
        return response;
    } catch (...) {
        idempotency_.forget(request.idempotency_key);
        throw;
    }
}

ApiResponse Dispatcher::call(const Route& route, const ApiRequest& request) const {
    switch (route.endpoint) {
        case Endpoint::list_tenants: return list_tenants(ports_, request);
        case Endpoint::get_tenant: return get_tenant(ports_, request);
        case Endpoint::forget_tenant: return forget_tenant(ports_, request);
        case Endpoint::promote_tenant: return start_move(ports_, request, MoveKind::promote);
        case Endpoint::demote_tenant: return start_move(ports_, request, MoveKind::demote);
        case Endpoint::relocate_tenant: return start_move(ports_, request, MoveKind::relocate);
        case Endpoint::suspend_tenant: return suspend_tenant(ports_, request);
        case Endpoint::resume_tenant: return resume_tenant(ports_, request);
        case Endpoint::list_clusters: return list_clusters(ports_, request);
        case Endpoint::check_database: return check_database(ports_, request);
        case Endpoint::apply_document: return apply_document(ports_, request);
        case Endpoint::list_moves: return list_moves(ports_, request);
        case Endpoint::get_move: return get_move(ports_, request);
        case Endpoint::cancel_move: return cancel_move(ports_, request);
        case Endpoint::cutover_move: return cutover_move(ports_, request);
        case Endpoint::rollback_move: return rollback_move(ports_, request);
        case Endpoint::complete_move: return complete_move(ports_, request);
        // The connection turns a 200 of this into a stream of events.
        case Endpoint::move_events: return get_move(ports_, request);
        case Endpoint::healthz: return healthz(ports_, request);
        case Endpoint::readyz: return readyz(ports_, request);
        case Endpoint::metrics_page: return metrics_page(ports_, request);
        case Endpoint::openapi: {
            ApiResponse response;
            response.body = openapi_document();
            return response;
        }
    }
    return problem_response(fail(ErrorKind::internal, "a route without a resource"), request.path);
}

void Dispatcher::count(const Route& route, const ApiResponse& response) const {
    ports_.registry
        .counter("pgporter_api_requests_total", "Requests to the admin API that were routed.",
                 {{"method", std::string(route.method)}, {"route", std::string(route.pattern)}, {"status", std::to_string(response.status)}})
        .inc();
}

}  // namespace pgporter
