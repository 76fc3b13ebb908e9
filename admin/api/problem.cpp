#include "admin/api/problem.hpp"

#include <boost/json.hpp>

namespace pgporter {
namespace {

struct KindRow {
    unsigned status;
    std::string_view code;
    std::string_view title;
};

KindRow row_of(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::invalid: return {400, "invalid", "The request is wrong"};
        case ErrorKind::not_found: return {404, "not_found", "No such thing"};
        case ErrorKind::conflict: return {409, "conflict", "The present state forbids it"};
        case ErrorKind::unauthenticated: return {401, "unauthenticated", "A valid token is needed"};
        case ErrorKind::forbidden: return {403, "forbidden", "Not allowed"};
        case ErrorKind::limit: return {429, "limit", "A limit was reached"};
        case ErrorKind::timeout: return {504, "timeout", "It took too long"};
        case ErrorKind::unavailable: return {503, "unavailable", "A server can't be reached now"};
        case ErrorKind::cancelled: return {409, "cancelled", "It was cancelled"};
        case ErrorKind::internal: return {500, "internal", "Something unexpected happened"};
    }
    return {500, "internal", "Something unexpected happened"};
}

}  // namespace

unsigned status_of(ErrorKind kind) { return row_of(kind).status; }
std::string_view code_of(ErrorKind kind) { return row_of(kind).code; }

Problem problem_from(const Error& error) {
    const auto row = row_of(error.kind);
    Problem problem{row.status, std::string(row.code), std::string(row.title), error.message, error.hint, error.sqlstate, {}};
    if (!error.detail.empty()) problem.detail += ": " + error.detail;
    return problem;
}

ApiResponse problem_response(const Problem& problem, std::string_view instance) {
    boost::json::object body;
    body["type"] = "urn:pgporter:problem:" + problem.code;
    body["title"] = problem.title;
    body["status"] = problem.status;
    body["detail"] = problem.detail;
    body["instance"] = boost::json::string_view(instance.data(), instance.size());
    if (!problem.hint.empty()) body["hint"] = problem.hint;
    if (!problem.sqlstate.empty()) body["sqlstate"] = problem.sqlstate;
    if (!problem.next_steps.empty()) {
        boost::json::array steps;
        for (const auto& step : problem.next_steps) steps.emplace_back(step);
        body["next_steps"] = std::move(steps);
    }
    ApiResponse response;
    response.status = problem.status;
    response.content_type = "application/problem+json";
    response.body = boost::json::serialize(body) + "\n";
    if (problem.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"pgporter\"");
    if (problem.status == 429 || problem.status == 503) response.headers.emplace_back("Retry-After", "5");
    return response;
}

ApiResponse problem_response(const Error& error, std::string_view instance) { return problem_response(problem_from(error), instance); }

}  // namespace pgporter
