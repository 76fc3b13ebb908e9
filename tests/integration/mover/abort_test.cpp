// What a move leaves when it doesn't end well: nothing.
#include <doctest/doctest.h>

#include <thread>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/writers.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

// Does something once, on the move's own thread, when it has entered a state and before it acts.
class WhenState {
  public:
    WhenState(MoveWorld& world, MoveState state, std::function<void(MoveId)> act) : world_(world) {
        subscription_ = world.mover().subscribe([this, state, act = std::move(act)](const MoveEvent& event) {
            if (event.type != "state" || event.record.state != state || done_.exchange(true)) return;
            act(event.record.id);
        });
    }
    ~WhenState() { world_.mover().unsubscribe(subscription_); }
    [[nodiscard]] bool done() const { return done_.load(); }

  private:
    MoveWorld& world_;
    std::atomic<bool> done_{false};
    std::uint64_t subscription_ = 0;
};

void check_nothing_happened(MoveWorld& world) {
    CHECK(world.artefacts() == "");
    CHECK_FALSE(world.target_exists());
    CHECK(world.where_tenant_lives() == "shared-1/shared");
    CHECK_FALSE(world.gate().held());
}

}  // namespace

TEST_CASE("a move cancelled in any state leaves nothing, and no client notices") {
    MoveWorld world;
    Writers writers(world, 2);
    writers.start();
    for (const auto state : {MoveState::preflight, MoveState::schema, MoveState::gate, MoveState::slot, MoveState::copy,
                             MoveState::index, MoveState::catchup, MoveState::verify}) {
        CAPTURE(to_text(state));
        WhenState cancel(world, state, [&](MoveId move) { CHECK(world.mover().cancel(move).has_value()); });
        const auto record = world.run(world.request(), MoveState::aborted);
        CHECK(cancel.done());
        CHECK(record.error == "the move was cancelled");
        check_nothing_happened(world);
        writers.wait_for_more(5);
    }
    // And then it works.
    const auto record = world.run(world.request(), MoveState::reversing);
    CHECK(world.mover().cancel(record.id).error().kind == ErrorKind::conflict);
    writers.wait_for_more(10);
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
}

TEST_CASE("rows of somebody else in a table of the target that is about to be filled are neither copied over nor emptied away") {
    MoveWorld world;
    WhenState slipped_in(world, MoveState::copy, [&](MoveId) { world.on_target("INSERT INTO acme.scratch (v) VALUES (1)"); });
    std::string kept;
    WhenState undoing(world, MoveState::aborting, [&](MoveId) { kept = world.on_target("SELECT count(*) FROM acme.scratch WHERE v = 1"); });
    const auto record = world.run(world.request(), MoveState::aborted);
    CHECK(slipped_in.done());
    CHECK(record.error.find("copying acme.scratch: the target's table isn't empty") != std::string::npos);
    CHECK(kept == "1");
    check_nothing_happened(world);
}

TEST_CASE("a move whose process ended is undone by the next one") {
    MoveWorld world;
    for (const auto state : {MoveState::preflight, MoveState::schema, MoveState::slot, MoveState::copy,
                             MoveState::catchup, MoveState::verify}) {
        CAPTURE(to_text(state));
        MoveId id;
        {
            std::thread stopper;
            std::atomic<bool> go{false};
            WhenState reached(world, state, [&](MoveId) { go.store(true); });
            auto started = world.mover().start(world.request());
            REQUIRE(started.has_value());
            id = started->id;
            while (!go.load()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            world.mover().stop();
        }
        const auto left = world.store().find_move(id);
        REQUIRE(left.has_value());
        CHECK_FALSE(is_finished(left->state));
        world.restart_mover();
        world.mover().recover();
        world.wait_for(id, {MoveState::aborted});
        check_nothing_happened(world);
    }
}

TEST_CASE("a move whose process ended after the flip is finished by the next one") {
    MoveWorld world;
    MoveId id;
    {
        std::atomic<bool> reached{false};
        std::thread stopper;
        WhenState flipped(world, MoveState::flipped, [&](MoveId move) {
            id = move;
            stopper = std::thread([&] { world.mover().stop(); });
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            reached.store(true);
        });
        REQUIRE(world.mover().start(world.request()).has_value());
        while (!reached.load()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        stopper.join();
    }
    CHECK(world.store().find_move(id)->state == MoveState::flipped);
    world.restart_mover();
    world.mover().recover();
    world.wait_for(id, {MoveState::reversing});
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
    CHECK(world.artefacts().find("slot pgporter_move") == std::string::npos);
}

TEST_CASE("a catalog that goes away inside the pause") {
    MoveWorld world;
    Writers writers(world, 2);
    writers.start();
    SUBCASE("for a moment, before the fence") {
        world.journal().fail_advance(MoveState::fenced, false);
    }
    SUBCASE("for a moment, with the answer lost before the fence") {
        world.journal().fail_advance(MoveState::fenced, true);
    }
    SUBCASE("for a moment, before the target is known to be complete") {
        world.journal().fail_advance(MoveState::drained, false);
    }
    SUBCASE("for a moment, with that answer lost") {
        world.journal().fail_advance(MoveState::drained, true);
    }
    SUBCASE("at the flip, refused") {
        world.journal().fail_flip(false, 3);
    }
    SUBCASE("at the flip, answer lost") {
        world.journal().fail_flip(true);
    }
    const auto record = world.run(world.request(), MoveState::reversing);
    writers.wait_for_more(10);
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    CHECK(record.progress.pause_ms > 0);
}

TEST_CASE("a catalog that stays away inside the pause ends the move, and the fence is lifted only when it is back") {
    MoveWorld world;
    Writers writers(world, 2);
    writers.start();
    world.journal().fail_advance(MoveState::drained, false, 25);
    world.journal().fail_advance(MoveState::aborting, false, 5);
    const auto record = world.run(world.request(), MoveState::aborted);
    CHECK(record.error.find("the catalog is away") != std::string::npos);
    check_nothing_happened(world);
    writers.wait_for_more(10);
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
}

TEST_CASE("what is wrong on the target refuses the flip") {
    MoveWorld world;
    std::string expected;
    MoveRequest request = world.request();
    SUBCASE("a copied row was changed") {
        WhenState corrupt(world, MoveState::index,
                          [&](MoveId) { world.on_target("UPDATE acme.orders SET total = total + 1 WHERE id = 77"); });
        const auto record = world.run(request, MoveState::aborted);
        CHECK(record.error.find("acme.orders: contents of 3020 compared rows differ") != std::string::npos);
    }
    SUBCASE("a row is missing") {
        WhenState corrupt(world, MoveState::index, [&](MoveId) {
            world.on_target("DELETE FROM acme.audit WHERE ctid = (SELECT min(ctid) FROM acme.audit)");
        });
        const auto record = world.run(request, MoveState::aborted);
        CHECK(record.error.find("acme.audit: 60 rows on the source, 59 on the target") != std::string::npos);
    }
    SUBCASE("a change finds no row") {
        WhenState corrupt(world, MoveState::catchup, [&](MoveId) {
            world.on_target("DELETE FROM acme.orders WHERE id = 78");
            world.on_source("UPDATE acme.orders SET total = 5 WHERE id = 78");
        });
        const auto record = world.run(request, MoveState::aborted);
        CHECK(record.error.find("a change of acme.orders hit 0 rows on the target instead of one") !=
              std::string::npos);
    }
    SUBCASE("a row that changed after the comparison is compared inside the pause") {
        request.cutover = false;
        const auto id = world.mover().start(request)->id;
        while (world.mover().find(id)->progress.note.find("waits for the cutover") == std::string::npos)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        world.on_target(
            "SET session_replication_role = replica; UPDATE acme.orders SET note = 'spoiled' WHERE id = 3001");
        world.on_source("UPDATE acme.orders SET total = total + 1 WHERE id = 3001");
        REQUIRE(world.mover().cutover(id).has_value());
        const auto record = world.wait_for(id, {MoveState::aborted});
        CHECK(record.error.find("acme.orders: contents of 1 compared rows differ") != std::string::npos);
    }
    check_nothing_happened(world);
    world.on_source("UPDATE acme.orders SET total = 1 WHERE id = 1");  // not fenced
}
