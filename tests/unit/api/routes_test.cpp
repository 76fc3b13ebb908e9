#include "admin/api/routes.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

using namespace pgporter;

TEST_CASE("every route of the table is found by its own method and pattern") {
    for (const auto& route : route_table()) {
        std::string path(route.pattern);
        for (const auto* name : {"{name}", "{id}"}) {
            if (const auto at = path.find(name); at != std::string::npos) path.replace(at, std::string(name).size(), "17");
        }
        CAPTURE(path);
        const auto match = match_route(route.method, path);
        REQUIRE(match.route != nullptr);
        CHECK(match.route->endpoint == route.endpoint);
    }
}

TEST_CASE("parameters are decoded and the verb is cut off") {
    auto match = match_route("POST", "/v1/tenants/ac-me_1:promote");
    REQUIRE(match.route != nullptr);
    CHECK(match.route->endpoint == Endpoint::promote_tenant);
    CHECK(match.params.at("name") == "ac-me_1");
    match = match_route("POST", "/v1/moves/17%3Acancel");
    REQUIRE(match.route != nullptr);
    CHECK(match.route->endpoint == Endpoint::cancel_move);
    CHECK(match.params.at("id") == "17");
    match = match_route("GET", "/v1/tenants/a%2Fb");
    REQUIRE(match.route != nullptr);
    CHECK(match.params.at("name") == "a/b");
}

TEST_CASE("a known path with another method says which are allowed") {
    auto match = match_route("PUT", "/v1/tenants/acme");
    CHECK(match.route == nullptr);
    CHECK(match.allowed.size() == 2);
    CHECK(std::count(match.allowed.begin(), match.allowed.end(), "DELETE") == 1);
    match = match_route("GET", "/v1/tenants/acme:promote");
    CHECK(match.route == nullptr);
    REQUIRE(match.allowed.size() == 1);
    CHECK(match.allowed.front() == "POST");
}

TEST_CASE("what isn't there isn't found") {
    for (const auto* path : {"", "/", "v1/tenants", "/v1", "/v1/tenants/", "/v1/tenants/acme/", "/v1/tenants/acme:fly", "/v1/tenants/:promote",
                             "/v1/moves/17/events/more", "/V1/tenants", "/v1/tenants/%zz", "/v1/tenants/%0", "/v1/tenants/a%00b",
                             "/a/b/c/d/e/f/g/h/i/j/k", "//v1/tenants"}) {
        CAPTURE(path);
        const auto match = match_route("GET", path);
        CHECK(match.route == nullptr);
        CHECK(match.allowed.empty());
    }
}

TEST_CASE("only health, metrics and the description are open") {
    for (const auto& route : route_table()) {
        CAPTURE(route.pattern);
        CHECK((route.access == Access::token) == route.pattern.starts_with("/v1/"));
    }
}

TEST_CASE("queries are decoded; a broken escape is an error, not a guess") {
    const auto query = parse_query("limit=5&after=a%20b+c&dry_run&&x=1&x=2");
    REQUIRE(query);
    CHECK(query->at("limit") == "5");
    CHECK(query->at("after") == "a b c");
    CHECK(query->at("dry_run").empty());
    CHECK(query->at("x") == "2");
    CHECK(query->size() == 4);
    CHECK_FALSE(parse_query("a=%"));
    CHECK_FALSE(parse_query("a=%4"));
    CHECK_FALSE(parse_query("%g0=1"));
    CHECK(parse_query("")->empty());
}
