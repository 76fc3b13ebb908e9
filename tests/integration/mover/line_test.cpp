// Moves that wait in line: the oldest begins first, over all instances, and nobody is lost when a process ends.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "tests/integration/mover/move_world.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

// Tenants t1 .. tn beside acme, each with a schema of its own.
void add_tenants(MoveWorld& world, int count) {
    for (int i = 1; i <= count; ++i) {
        const auto name = "t" + std::to_string(i);
        world.on_source("CREATE SCHEMA " + name + " AUTHORIZATION app; CREATE TABLE " + name +
                        ".things (id int PRIMARY KEY); ALTER TABLE " + name + ".things OWNER TO app; INSERT INTO " + name +
                        ".things SELECT generate_series(1, 10)");
        world.add_tenant(name);
    }
}

MoveRequest request_of(const MoveWorld& world, const std::string& tenant, bool cutover) {
    auto request = world.request();
    request.tenant = tenant;
    request.database = tenant + "_own";
    request.cutover = cutover;
    return request;
}

MoveRecord start(Mover& mover, const MoveRequest& request) {
    auto started = mover.start(request);
    REQUIRE_MESSAGE(started.has_value(), started.error().message);
    return *started;
}

}  // namespace

TEST_CASE("moves beyond the bound wait in line, oldest first; who waits can be cancelled; the line has a bound") {
    MoveWorld world;
    world.config().mover.moves_max = 1;
    world.config().mover.queue_max = 3;
    add_tenants(world, 4);
    const auto first = start(world.mover(), request_of(world, "acme", false));
    world.wait_for(first.id, {MoveState::verify});
    const auto second = start(world.mover(), request_of(world, "t1", true));
    const auto third = start(world.mover(), request_of(world, "t2", true));
    const auto fourth = start(world.mover(), request_of(world, "t3", true));
    CHECK(world.mover().find(second.id)->place_in_line == 1);
    CHECK(world.mover().find(third.id)->place_in_line == 2);
    CHECK(world.mover().find(fourth.id)->place_in_line == 3);
    const auto refused = world.mover().start(request_of(world, "t4", true));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().kind == ErrorKind::limit);
    CHECK(refused.error().message.find("mover.queue_max") != std::string::npos);
    CHECK(world.registry().counter("pgporter_moves_refused_total", "").value() == 1);

    // Who waits has made nothing, and leaves at once.
    auto& waiting = world.registry().gauge("pgporter_moves_waiting", "");
    for (int i = 0; i < 500 && waiting.value() != 3; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(waiting.value() == 3);
    std::atomic<int> closer{0};
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        if (event.record.id == fourth.id && event.record.place_in_line == 2) ++closer;
    });
    const auto cancelled = world.mover().cancel(third.id);
    REQUIRE(cancelled.has_value());
    CHECK(cancelled->state == MoveState::aborted);
    CHECK(world.store().find_move(third.id)->error == "the move was cancelled");
    CHECK(world.mover().cancel(third.id).error().kind == ErrorKind::conflict);
    CHECK(world.mover().find(fourth.id)->place_in_line == 2);
    for (int i = 0; i < 500 && closer.load() == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(closer.load() > 0);  // those who watch are told
    world.mover().unsubscribe(subscription);

    // A place becomes free: the two that are left go one after the other, in their order.
    CHECK(world.mover().find(second.id)->state == MoveState::planned);
    REQUIRE(world.mover().cutover(first.id).has_value());
    world.wait_for(fourth.id, {MoveState::reversing});
    CHECK(world.mover().find(second.id)->state == MoveState::reversing);
    const auto order = MoveWorld::sql(world.source_server(), "catalog",
                                      "SELECT string_agg(move::text || ' ' || state, ', ' ORDER BY id) FROM pgporter.move_steps WHERE state IN "
                                      "('preflight', 'opened')");
    const auto text = [](MoveId id) { return std::to_string(id.value); };
    CHECK(order == text(first.id) + " preflight, " + text(first.id) + " opened, " + text(second.id) + " preflight, " + text(second.id) +
                       " opened, " + text(fourth.id) + " preflight, " + text(fourth.id) + " opened");
}

TEST_CASE("who waits in line begins in the next process, or at another instance") {
    MoveWorld world;
    world.config().mover.moves_max = 1;
    add_tenants(world, 2);
    const auto first = start(world.mover(), request_of(world, "acme", false));
    world.wait_for(first.id, {MoveState::verify});
    const auto second = start(world.mover(), request_of(world, "t1", true));
    const auto third = start(world.mover(), request_of(world, "t2", true));
    {
        // Another instance: it doesn't begin what there is no place for, and it can be asked for what waits.
        metrics::Registry registry;
        Mover other({world.config(), world.journal(), world.gate(), world.publisher(), registry});
        other.recover();
        std::this_thread::sleep_for(std::chrono::milliseconds(1'500));  // it has looked more than once
        CHECK(world.store().find_move(second.id)->state == MoveState::planned);
        REQUIRE(other.cancel(third.id).has_value());
        CHECK(world.store().find_move(third.id)->state == MoveState::aborted);
        world.mover().stop();  // the first instance ends; its move is undone by the other, and then there is a place
        other.recover();
        world.wait_for(second.id, {MoveState::reversing});
        CHECK(world.store().find_move(first.id)->state == MoveState::aborted);
    }
    world.restart_mover();
}
