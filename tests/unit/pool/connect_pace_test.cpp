#include "proxy/pool/connect_pace.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

const Error refused = fail(ErrorKind::unavailable, "can't connect", {}, {}, "08001");
constexpr double in_the_middle = 0.5;  // of the jitter: the pause is what it says

struct Clock {
    SteadyTime now{std::chrono::hours(1)};
    SteadyTime after(int ms) { return now += Milliseconds(ms); }
};

}  // namespace

TEST_CASE("so many at once, and no more") {
    Clock clock;
    ConnectPace pace({2, Milliseconds(1'000), Milliseconds(3'000)});
    CHECK(pace.may_try(clock.now));
    pace.began();
    pace.began();
    CHECK_FALSE(pace.may_try(clock.now));
    pace.succeeded();
    CHECK(pace.may_try(clock.now));
    pace.gave_up();
    CHECK_FALSE(pace.is_down());
    CHECK(pace.verdict(clock.now) == nullptr);
}

TEST_CASE("a server that takes none is tried by one at a time, ever more seldom, up to the bound") {
    Clock clock;
    ConnectPace pace({8, Milliseconds(300), Milliseconds(3'000)});
    int expected[] = {50, 100, 200, 300, 300};
    for (const int pause : expected) {
        REQUIRE(pace.may_try(clock.now));
        pace.began();
        pace.failed(clock.now, refused, in_the_middle, false);
        CHECK_FALSE(pace.may_try(clock.after(pause - 1)));
        CHECK(pace.may_try(clock.after(1)));
    }
    pace.began();
    CHECK_FALSE(pace.may_try(clock.after(10'000)));  // one is enough
    pace.succeeded();
    CHECK(pace.may_try(clock.now));
    pace.began();
    CHECK(pace.may_try(clock.now));
}

TEST_CASE("failures of several that were under way together count once") {
    Clock clock;
    ConnectPace pace({8, Milliseconds(1'000), Milliseconds(3'000)});
    for (int i = 0; i < 8; ++i) pace.began();
    for (int i = 0; i < 8; ++i) pace.failed(clock.now, refused, in_the_middle, false);
    CHECK(pace.may_try(clock.after(50)));
}

TEST_CASE("who waits is told when the outage is old enough, or nothing better is to come") {
    Clock clock;
    ConnectPace pace({8, Milliseconds(100), Milliseconds(3'000)});
    pace.began();
    pace.failed(clock.now, refused, in_the_middle, false);
    CHECK(pace.verdict(clock.after(2'999)) == nullptr);
    REQUIRE(pace.verdict(clock.after(1)) != nullptr);
    CHECK(pace.verdict(clock.now)->sqlstate == "08001");
    pace.began();
    pace.succeeded();
    CHECK(pace.verdict(clock.now) == nullptr);
    pace.began();
    pace.failed(clock.now, refused, in_the_middle, true);
    CHECK(pace.verdict(clock.now) != nullptr);
}

TEST_CASE("what is forgotten stands in nobody's way") {
    Clock clock;
    ConnectPace pace({8, Milliseconds(1'000), Milliseconds(0)});
    pace.began();
    pace.failed(clock.now, refused, in_the_middle, true);
    CHECK_FALSE(pace.may_try(clock.now));
    pace.forget_failure();
    CHECK(pace.may_try(clock.now));
    CHECK(pace.failure() == nullptr);
}
