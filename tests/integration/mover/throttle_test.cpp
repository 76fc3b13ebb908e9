// A copy that makes way: for its bound, and for neighbours that suffer. It ends all the same, and says what slows it down.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <thread>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/told_latency.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

struct Seen {
    MoveRecord record;
    std::chrono::steady_clock::duration copied_for{};
    std::map<std::string, double> throttled_most;  // by what
    double bytes_per_second_most = 0;
    bool was_estimated = false;
};

// Moves acme with so many rows of about 800 bytes.
Seen move_much(MoveWorld& world, int rows, const std::function<void()>& on_copy) {
    world.on_source(
        "INSERT INTO acme.orders (customer_id, total, note) SELECT (SELECT min(id) FROM acme.customers), 1, "
            "repeat(md5(i::text), 25) FROM generate_series(1, " + std::to_string(rows) + ") AS i; ANALYZE acme.orders");
    Seen seen;
    std::chrono::steady_clock::time_point began;
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        if (event.type != "state") return;
        if (event.record.state == MoveState::copy) {
            began = std::chrono::steady_clock::now();
            on_copy();
        }
        if (event.record.state == MoveState::index) seen.copied_for = std::chrono::steady_clock::now() - began;
    });
    const auto id = world.mover().start(world.request())->id;
    for (;;) {
        seen.record = *world.mover().find(id);
        const auto& progress = seen.record.progress;
        if (seen.record.state == MoveState::reversing || is_finished(seen.record.state)) break;
        auto& most = seen.throttled_most[progress.throttled_by];
        most = std::max(most, progress.throttled);
        seen.bytes_per_second_most = std::max(seen.bytes_per_second_most, progress.bytes_per_second);
        seen.was_estimated |= seen.record.state == MoveState::copy && progress.seconds_left.value_or(0) > 0;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    world.mover().unsubscribe(subscription);
    CHECK(seen.record.state == MoveState::reversing);
    return seen;
}

}  // namespace

TEST_CASE("a copy keeps to its bound, and tells how fast it is and how long it takes") {
    MoveWorld world;
    world.config().mover.copy_mib_per_s_max = 10;
    const auto seen = move_much(world, 50'000, [] {});
    CHECK(seen.copied_for > std::chrono::seconds(3));
    CHECK(seen.throttled_most.at("copy_mib_per_s_max") > 0.3);
    CHECK_FALSE(seen.throttled_most.contains("neighbours"));
    CHECK(seen.bytes_per_second_most > 5e6);
    CHECK(seen.bytes_per_second_most < 20e6);
    CHECK(seen.was_estimated);
    CHECK(world.registry().counter("pgporter_move_throttled_seconds_total", "", {{"by", "copy_mib_per_s_max"}}).value() > 0);
}

TEST_CASE("a copy slows down while its neighbours suffer, and ends") {
    MoveWorld world;
    ToldLatency latency;
    world.set_latency(&latency);
    world.config().mover.throttled_percent_min = 10;
    world.config().mover.copy_mib_per_s_max = 80;  // so that it takes long enough to be slowed down, by more than this
    const auto seen = move_much(world, 250'000, [&] {
        CHECK(latency.watches.load() > 0);
        latency.microseconds.store(2'000);
    });
    REQUIRE(seen.throttled_most.contains("neighbours"));
    CHECK(seen.throttled_most.at("neighbours") > 0.4);
    CHECK(latency.watches.load() == 0);
    CHECK(seen.record.progress.throttled == 0);  // it isn't any more
    world.set_latency(nullptr);
}
