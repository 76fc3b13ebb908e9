#include "admin/api/problem.hpp"

#include <doctest/doctest.h>

#include <boost/json.hpp>
#include <map>

using namespace pgporter;

TEST_CASE("each kind of failure has its status") {
    const std::map<ErrorKind, unsigned> statuses{
        {ErrorKind::invalid, 400},   {ErrorKind::not_found, 404}, {ErrorKind::conflict, 409}, {ErrorKind::unauthenticated, 401},
        {ErrorKind::forbidden, 403}, {ErrorKind::limit, 429},     {ErrorKind::timeout, 504},  {ErrorKind::unavailable, 503},
        {ErrorKind::cancelled, 409}, {ErrorKind::internal, 500}};
    for (const auto& [kind, status] : statuses) {
        CHECK(status_of(kind) == status);
        const auto response = problem_response(fail(kind, "it broke"), "/v1/x");
        CHECK(response.status == status);
        CHECK(response.content_type == "application/problem+json");
        const auto body = boost::json::parse(response.body).as_object();
        CHECK(body.at("type").as_string() == "urn:pgporter:problem:" + std::string(code_of(kind)));
        CHECK(body.at("status").as_int64() == status);
        CHECK(body.at("instance").as_string() == "/v1/x");
        CHECK(body.at("detail").as_string() == "it broke");
        CHECK_FALSE(body.contains("hint"));
    }
}

TEST_CASE("a problem carries detail, hint, sqlstate and next steps") {
    auto problem = problem_from(fail(ErrorKind::conflict, "the tenant is moving", "move 3", "wait for it", "55000"));
    problem.next_steps.emplace_back("pgporter moves");
    const auto body = boost::json::parse(problem_response(problem, "/x").body).as_object();
    CHECK(body.at("detail").as_string() == "the tenant is moving: move 3");
    CHECK(body.at("hint").as_string() == "wait for it");
    CHECK(body.at("sqlstate").as_string() == "55000");
    CHECK(body.at("next_steps").as_array().at(0).as_string() == "pgporter moves");
}

TEST_CASE("401 asks for a bearer token, 503 says when to come back") {
    const auto has = [](const ApiResponse& response, const std::string& name) {
        for (const auto& [key, value] : response.headers) {
            if (key == name) return true;
        }
        return false;
    };
    CHECK(has(problem_response(fail(ErrorKind::unauthenticated, "no"), "/"), "WWW-Authenticate"));
    CHECK(has(problem_response(fail(ErrorKind::unavailable, "no"), "/"), "Retry-After"));
    CHECK_FALSE(has(problem_response(fail(ErrorKind::invalid, "no"), "/"), "WWW-Authenticate"));
}
