#include "admin/api/idempotency.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace pgporter;
using Outcome = IdempotencyCache::Outcome;

namespace {

ApiRequest request(std::string key, std::string body = "{}", std::string target = "/v1/apply") {
    ApiRequest out;
    out.method = "POST";
    out.target = std::move(target);
    out.idempotency_key = std::move(key);
    out.body = std::move(body);
    return out;
}

ApiResponse answer(std::string body) {
    ApiResponse out;
    out.status = 202;
    out.body = std::move(body);
    return out;
}

struct Fixture {
    std::chrono::steady_clock::time_point now{};
    IdempotencyCache::Limits limits{};
    IdempotencyCache cache{limits, [this] { return now; }};
    Fixture() = default;
    explicit Fixture(IdempotencyCache::Limits l) : limits(l), cache(l, [this] { return now; }) {}
};

}  // namespace

TEST_CASE("the same key and request give the first answer again") {
    Fixture f;
    CHECK(f.cache.begin(request("k")).outcome == Outcome::proceed);
    CHECK(f.cache.begin(request("k")).outcome == Outcome::in_flight);
    f.cache.remember("k", answer("one"));
    const auto again = f.cache.begin(request("k"));
    CHECK(again.outcome == Outcome::replay);
    CHECK(again.answer.status == 202);
    CHECK(again.answer.body == "one");
    CHECK(f.cache.begin(request("other")).outcome == Outcome::proceed);
}

TEST_CASE("the same key with another body or address is a mismatch, in flight or done") {
    Fixture f;
    CHECK(f.cache.begin(request("k")).outcome == Outcome::proceed);
    CHECK(f.cache.begin(request("k", "{ }")).outcome == Outcome::mismatch);
    f.cache.remember("k", answer("one"));
    CHECK(f.cache.begin(request("k", "{ }")).outcome == Outcome::mismatch);
    CHECK(f.cache.begin(request("k", "{}", "/v1/apply?dry_run=true")).outcome == Outcome::mismatch);
}

TEST_CASE("a forgotten key is new") {
    Fixture f;
    CHECK(f.cache.begin(request("k")).outcome == Outcome::proceed);
    f.cache.forget("k");
    CHECK(f.cache.begin(request("k")).outcome == Outcome::proceed);
}

TEST_CASE("keys expire after a day") {
    Fixture f;
    CHECK(f.cache.begin(request("k")).outcome == Outcome::proceed);
    f.cache.remember("k", answer("one"));
    f.now += std::chrono::hours(24) - std::chrono::seconds(1);
    CHECK(f.cache.begin(request("k")).outcome == Outcome::replay);
    f.now += std::chrono::seconds(1);
    CHECK(f.cache.begin(request("k")).outcome == Outcome::proceed);
}

TEST_CASE("keys are bounded: the oldest answered one goes first, those in flight never") {
    Fixture f({3, 1'000'000, std::chrono::seconds(1000)});
    CHECK(f.cache.begin(request("flying")).outcome == Outcome::proceed);
    for (const auto* key : {"a", "b", "c", "d"}) {
        CHECK(f.cache.begin(request(key)).outcome == Outcome::proceed);
        f.cache.remember(key, answer(key));
    }
    CHECK(f.cache.size() == 3);
    CHECK(f.cache.begin(request("flying")).outcome == Outcome::in_flight);
    CHECK(f.cache.begin(request("d")).outcome == Outcome::replay);
    CHECK(f.cache.begin(request("a")).outcome == Outcome::proceed);
    CHECK(f.cache.begin(request("b")).outcome == Outcome::proceed);
    CHECK(f.cache.begin(request("e")).outcome == Outcome::full);
    CHECK(f.cache.size() == 3);
}

TEST_CASE("remembered bytes are bounded") {
    Fixture f({100, 20'000, std::chrono::seconds(1000)});
    for (int i = 0; i < 50; ++i) {
        const auto key = std::to_string(i);
        CHECK(f.cache.begin(request(key)).outcome == Outcome::proceed);
        f.cache.remember(key, answer(std::string(2000, 'x')));
    }
    CHECK(f.cache.size() < 10);
    CHECK(f.cache.size() > 2);
    CHECK(f.cache.begin(request("49")).outcome == Outcome::replay);
    CHECK(f.cache.begin(request("huge")).outcome == Outcome::proceed);
    f.cache.remember("huge", answer(std::string(30'000, 'x')));
    CHECK(f.cache.begin(request("huge")).outcome == Outcome::proceed);
}
