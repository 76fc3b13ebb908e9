#include "proxy/pool/pool_peers.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

using namespace pgporter;

TEST_CASE("who has the most idle ones is asked, and never the asking thread") {
    PoolPeers peers(3);
    CHECK_FALSE(peers.richest_but(0));
    peers.set_idle(0, 9);
    CHECK_FALSE(peers.richest_but(0));
    peers.set_idle(1, 1);
    peers.set_idle(2, 2);
    CHECK(peers.richest_but(0) == std::optional<std::size_t>(2));
    CHECK(peers.richest_but(2) == std::optional<std::size_t>(0));
}

TEST_CASE("orders are taken in turn, each once") {
    PoolPeers peers(3);
    CHECK_FALSE(peers.is_wanted());
    CHECK_FALSE(peers.take_order(0));
    peers.set_wanted(1, 2);
    peers.set_wanted(2, 1);
    CHECK(peers.is_wanted());
    CHECK_FALSE(PoolPeers(1).is_wanted());
    CHECK(peers.take_order(0) == std::optional<std::size_t>(1));
    CHECK(peers.take_order(0) == std::optional<std::size_t>(2));
    CHECK(peers.take_order(0) == std::optional<std::size_t>(1));
    CHECK_FALSE(peers.take_order(0));
    peers.set_wanted(1, 1);
    CHECK_FALSE(peers.take_order(1));  // its own
    peers.set_wanted(1, 0);
    peers.set_wanted(2, 0);
    CHECK_FALSE(peers.is_wanted());
}

TEST_CASE("of who wants and who has idle ones at the same moment, one sees the other") {
    for (int i = 0; i < 2000; ++i) {
        PoolPeers peers(2);
        std::atomic<int> ready{0};
        bool sees_idle = false;
        bool sees_order = false;
        const auto together = [&] {
            ++ready;
            while (ready.load() != 2) {
            }
        };
        std::thread wants([&] {
            together();
            peers.set_wanted(0, 1);
            sees_idle = peers.richest_but(0).has_value();
        });
        together();
        peers.set_idle(1, 1);
        sees_order = peers.is_wanted();
        wants.join();
        CHECK((sees_idle || sees_order));
    }
}
