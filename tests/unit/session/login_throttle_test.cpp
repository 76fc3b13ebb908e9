#include "proxy/session/login_throttle.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

const auto start = LoginThrottle::Time{} + std::chrono::hours(1);
const auto window = std::chrono::milliseconds(60'000);

LoginThrottleLimits limits(std::uint32_t failures_max, std::uint32_t addresses_max = 100, std::uint32_t logins = 2) {
    return {failures_max, window, addresses_max, logins};
}

std::optional<IpAddress> v4(unsigned number) {
    return parse_ip("10.0." + std::to_string(number / 256) + "." + std::to_string(number % 256));
}

void fail_often(LoginThrottle& throttle, const std::optional<IpAddress>& from, const std::string& user, int count) {
    for (int i = 0; i < count; ++i) throttle.note_failure(from, user, start);
}

}  // namespace

TEST_CASE("a user is refused after its failures, from that address and until the window is over") {
    LoginThrottle throttle(limits(3));
    fail_often(throttle, v4(1), "app", 2);
    CHECK(throttle.may_try(v4(1), "app", start));
    fail_often(throttle, v4(1), "app", 1);
    CHECK_FALSE(throttle.may_try(v4(1), "app", start));
    CHECK(throttle.may_try(v4(2), "app", start));
    CHECK(throttle.may_try(v4(1), "other", start));
    CHECK(throttle.may_try(std::nullopt, "app", start));
    CHECK_FALSE(throttle.may_try(v4(1), "app", start + window - std::chrono::milliseconds(1)));
    CHECK(throttle.may_try(v4(1), "app", start + window));
}

TEST_CASE("a successful login forgets the failures before it") {
    LoginThrottle throttle(limits(3));
    fail_often(throttle, v4(1), "app", 2);
    throttle.note_success(v4(1), "app");
    CHECK(throttle.remembered_addresses() == 0);
    fail_often(throttle, v4(1), "app", 2);
    CHECK(throttle.may_try(v4(1), "app", start));
}

TEST_CASE("made-up users don't wash a count away, nor fill the table") {
    LoginThrottle throttle(limits(3));
    fail_often(throttle, v4(1), "app", 3);
    for (int i = 0; i < 10'000; ++i) throttle.note_failure(v4(1), "made up " + std::to_string(i), start);
    CHECK_FALSE(throttle.may_try(v4(1), "app", start));
    CHECK(throttle.remembered_addresses() == 1);
}

TEST_CASE("many addresses lock nobody out and take no more memory than allowed") {
    LoginThrottle throttle(limits(3, 50));
    fail_often(throttle, v4(60'000), "app", 3);
    for (unsigned i = 0; i < 5'000; ++i) throttle.note_failure(v4(i), "app", start);
    CHECK(throttle.remembered_addresses() == 50);
    CHECK(throttle.may_try(v4(1), "app", start));       // failed once
    CHECK(throttle.may_try(v4(59'999), "app", start));  // never failed
    CHECK(throttle.may_try(v4(60'000), "app", start));  // forgotten: it may try again, which is the worst that happens
}

TEST_CASE("an address that goes on failing isn't the one that is forgotten") {
    LoginThrottle throttle(limits(3, 2));
    fail_often(throttle, v4(1), "app", 3);
    fail_often(throttle, v4(2), "app", 1);
    fail_often(throttle, v4(1), "app", 1);
    fail_often(throttle, v4(3), "app", 1);
    CHECK_FALSE(throttle.may_try(v4(1), "app", start));
}

TEST_CASE("an IPv6 network is one client, whatever address it takes") {
    LoginThrottle throttle(limits(2));
    throttle.note_failure(parse_ip("2001:db8:1:2::1"), "app", start);
    throttle.note_failure(parse_ip("2001:db8:1:2:ffff::9"), "app", start);
    CHECK_FALSE(throttle.may_try(parse_ip("2001:db8:1:2:3:4:5:6"), "app", start));
    CHECK(throttle.may_try(parse_ip("2001:db8:1:3::1"), "app", start));
}

TEST_CASE("a long name is cut as PostgreSQL cuts it") {
    LoginThrottle throttle(limits(2));
    throttle.note_failure(v4(1), std::string(63, 'a') + "b", start);
    throttle.note_failure(v4(1), std::string(63, 'a') + "c", start);
    CHECK_FALSE(throttle.may_try(v4(1), std::string(5'000, 'a'), start));
}

TEST_CASE("no bound is no bound") {
    LoginThrottle throttle(limits(0, 100, 0));
    fail_often(throttle, v4(1), "app", 100);
    CHECK(throttle.may_try(v4(1), "app", start));
    for (int i = 0; i < 1'000; ++i) CHECK(throttle.begin_login(v4(1)));
}

TEST_CASE("connections that log in are bounded by address") {
    LoginThrottle throttle(limits(3, 100, 2));
    CHECK(throttle.begin_login(v4(1)));
    CHECK(throttle.begin_login(v4(1)));
    CHECK_FALSE(throttle.begin_login(v4(1)));
    CHECK(throttle.begin_login(v4(2)));
    CHECK(throttle.begin_login(std::nullopt));
    throttle.end_login(v4(1));
    CHECK(throttle.begin_login(v4(1)));
    CHECK_FALSE(throttle.begin_login(v4(1)));
}
