#include <doctest/doctest.h>

#include <set>

#include "proxy/session/cancel_forward.hpp"
#include "proxy/session/cancel_registry.hpp"

using namespace pgporter;

TEST_CASE("the protocol version decides how long a secret is") {
    CancelRegistry registry;
    CHECK(registry.add({0, SessionId(1)}, 0).secret.size() == 4);
    CHECK(registry.add({0, SessionId(2)}, 2).secret.size() == 32);
}

TEST_CASE("a key finds its session, whole and unchanged only") {
    CancelRegistry registry(7);
    for (const std::uint16_t minor : {std::uint16_t(0), std::uint16_t(2)}) {
        const CancelKey key = registry.add({3, SessionId(9)}, minor);
        const auto found = registry.find(key.pid, key.secret);
        REQUIRE(found.has_value());
        CHECK(found->worker == 3);
        CHECK(found->session == SessionId(9));
        CHECK_FALSE(registry.find(key.pid + 1, key.secret).has_value());
        CHECK_FALSE(registry.find(key.pid, key.secret.substr(1)).has_value());
        CHECK_FALSE(registry.find(key.pid, key.secret + '\0').has_value());
        for (std::size_t i = 0; i < key.secret.size(); ++i) {
            std::string wrong = key.secret;
            wrong[i] = static_cast<char>(wrong[i] ^ 1);
            CHECK_FALSE(registry.find(key.pid, wrong).has_value());
        }
        registry.remove(key);
        CHECK_FALSE(registry.find(key.pid, key.secret).has_value());
    }
}

TEST_CASE("a key says which instance made it") {
    CancelRegistry alone;
    CancelRegistry one(1);
    CancelRegistry last(255);
    std::set<std::uint32_t> pids;
    for (int i = 0; i < 1'000; ++i) {
        const std::uint32_t pid = one.add({0, SessionId(1)}, 2).pid;
        CHECK(pids.insert(pid).second);
        CHECK((pid >> 31) == 0);
        CHECK_FALSE(one.foreign_instance(pid).has_value());
        CHECK(last.foreign_instance(pid) == std::optional<std::uint32_t>(1));
        CHECK_FALSE(alone.foreign_instance(pid).has_value());  // there are no others
        CHECK(one.foreign_instance(last.add({0, SessionId(1)}, 0).pid) == std::optional<std::uint32_t>(255));
        CHECK((alone.add({0, SessionId(1)}, 0).pid >> 31) == 0);
    }
    CHECK_FALSE(one.foreign_instance(0x80000000U | 5U << 23).has_value());
    CHECK_FALSE(one.foreign_instance(17).has_value());  // instance 0: nobody's
}

TEST_CASE("a request that was passed on once says so, and isn't passed on again") {
    CancelRequest request{42, "secr"};
    const auto marked = with_hop_mark(request);
    REQUIRE(marked.has_value());
    CHECK(marked->pid == 42);
    CancelRequest again = *marked;
    CHECK(take_hop_mark(again));
    CHECK(again.key == "secr");
    CHECK_FALSE(take_hop_mark(again));
    CHECK(with_hop_mark({42, std::string(32, 'k')}).has_value());
    CHECK_FALSE(with_hop_mark({42, std::string(256, 'k')}).has_value());
    CancelRequest mark_alone{42, marked->key.substr(4)};
    CHECK_FALSE(take_hop_mark(mark_alone));  // a secret must be left
}
