#include "admin/api/auth.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {
AdminConfig config_with(std::string address, std::string token) {
    AdminConfig config;
    config.address = std::move(address);
    config.token = Secret(std::move(token));
    return config;
}
const std::string good = "0123456789abcdef-token";
}  // namespace

TEST_CASE("only the right bearer token opens what needs one") {
    const auto config = config_with("127.0.0.1", good);
    CHECK_FALSE(check_token(config, Access::token, "Bearer " + good));
    CHECK_FALSE(check_token(config, Access::token, "bearer  " + good));
    for (const std::string& header : {std::string{}, std::string("Bearer "), std::string("Bearer"), "Basic " + good, good, "Bearer " + good + "x",
                                      "Bearer " + good.substr(1), "Bearer " + good + " "}) {
        CAPTURE(header);
        const auto problem = check_token(config, Access::token, header);
        REQUIRE(problem);
        CHECK(problem->status == 401);
        CHECK(problem->detail.find(good) == std::string::npos);
    }
}

TEST_CASE("without a configured token nobody gets in, not even with an empty one") {
    const auto config = config_with("127.0.0.1", "");
    for (const auto* header : {"", "Bearer ", "Bearer x"}) {
        const auto problem = check_token(config, Access::token, header);
        REQUIRE(problem);
        CHECK(problem->status == 403);
    }
    CHECK_FALSE(check_token(config, Access::open, ""));
}

TEST_CASE("metrics are open on loopback only; health everywhere") {
    CHECK_FALSE(check_token(config_with("127.0.0.1", good), Access::open_on_loopback, ""));
    CHECK_FALSE(check_token(config_with("::1", good), Access::open_on_loopback, ""));
    CHECK(check_token(config_with("0.0.0.0", good), Access::open_on_loopback, ""));
    CHECK_FALSE(check_token(config_with("0.0.0.0", good), Access::open_on_loopback, "Bearer " + good));
    CHECK_FALSE(check_token(config_with("0.0.0.0", good), Access::open, ""));
}

TEST_CASE("a loopback listener answers to loopback names only") {
    const auto config = config_with("127.0.0.1", good);
    for (const auto* host : {"127.0.0.1", "127.0.0.1:6480", "localhost", "LOCALHOST:80", "[::1]:6480", "[::1]"}) {
        CAPTURE(host);
        CHECK_FALSE(check_host(config, host));
    }
    for (const auto* host : {"", "evil.example", "evil.example:6480", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::1", "[]",
                             ":6480"}) {
        CAPTURE(host);
        const auto problem = check_host(config, host);
        REQUIRE(problem);
        CHECK(problem->status == 421);
    }
    CHECK_FALSE(check_host(config_with("10.0.0.5", good), "db.example"));
}
