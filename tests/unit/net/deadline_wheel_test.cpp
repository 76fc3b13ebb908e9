#include "proxy/net/deadline_wheel.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

using namespace pgporter;
using namespace std::chrono_literals;

namespace {

struct World {
    asio::io_context context{1};
    DeadlineWheel wheel;
    std::string expired;  // a letter for each, in order
    std::vector<std::unique_ptr<Deadline>> deadlines;

    World() { wheel.attach(context); }
    ~World() { wheel.detach(); }
    Deadline& add(char name, std::chrono::milliseconds after) {
        deadlines.push_back(std::make_unique<Deadline>(wheel));
        const SteadyTime due = std::chrono::steady_clock::now() + after;
        deadlines.back()->arm(after, [this, name, due] {
            CHECK(std::chrono::steady_clock::now() >= due);
            expired += name;
        });
        return *deadlines.back();
    }
};

}  // namespace

TEST_CASE("a wheel wakes for what is due, not for the time between") {
    World world;
    world.add('a', 300ms);
    CHECK(world.context.run() <= 3);  // handlers that have run
    CHECK(world.expired == "a");
}

TEST_CASE("what is armed later and due earlier comes first") {
    World world;
    world.add('c', 250ms);
    world.add('b', 120ms);
    world.add('a', 1ms);
    world.context.run();
    CHECK(world.expired == "abc");
}

TEST_CASE("a wheel sleeps through what was disarmed, and ends when nothing is armed") {
    World world;
    world.add('a', 50ms).disarm();
    world.add('b', 150ms);
    Deadline& last = world.add('c', 1h);
    world.deadlines.push_back(std::make_unique<Deadline>(world.wheel));
    world.deadlines.back()->arm(200ms, [&] { last.disarm(); });
    CHECK(world.context.run() <= 8);
    CHECK(world.expired == "b");
}

TEST_CASE("a callback arms again, also for at once") {
    World world;
    Deadline again(world.wheel);
    int times = 0;
    std::function<void()> arm = [&] {
        if (++times < 4) again.arm(1ms, arm);
    };
    again.arm(1ms, arm);
    world.context.run();
    CHECK(times == 4);
}

TEST_CASE("all slots are found, wherever the wheel stands") {
    World world;
    for (int round = 0; round < 3; ++round) {
        world.context.restart();
        world.expired.clear();
        std::string wanted;
        for (int i = 0; i < 26; ++i) {
            world.add(static_cast<char>('a' + i), std::chrono::milliseconds(13 * (i + 1)));
            wanted += static_cast<char>('a' + i);
        }
        world.context.run();
        CHECK(world.expired == wanted);
    }
}

// More than one turn of the wheel (10.24 s) is not waited for here: such a deadline must only not come early.
TEST_CASE("what is due in another turn doesn't expire in this one") {
    World world;
    world.add('z', 10'240ms);
    world.add('y', 10'250ms);
    world.add('a', 10ms);
    while (world.expired.empty()) world.context.run_one();
    world.context.run_for(30ms);
    CHECK(world.expired == "a");
}
