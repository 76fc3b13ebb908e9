// The way back: what is written on the target after the flip is on the source after a rollback, whatever broke meanwhile.
#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/writers.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

void check_tenant_is_back(MoveWorld& world) {
    CHECK(world.where_tenant_lives() == "shared-1/shared");
    CHECK(world.artefacts() == "");
    CHECK_FALSE(world.target_exists());
    CHECK_FALSE(world.gate().held());
    // Nothing refuses writes there, and numbers given on the target aren't given again.
    CHECK(world.on_source("SELECT last_value >= (SELECT max(id) FROM acme.customers) FROM acme.customers_id_seq") == "t");
    CHECK(world.on_source("SELECT last_value >= (SELECT max(id) FROM acme.events) FROM acme.events_id_seq") == "t");
    world.on_source("UPDATE acme.odd SET \"select\" = \"select\"");
}

void wait_for_note(MoveWorld& world, MoveId move, const std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (;;) {
        const auto record = world.mover().find(move);
        REQUIRE(record.has_value());
        if (record->progress.note.find(text) != std::string::npos) return;
        REQUIRE_MESSAGE(std::chrono::steady_clock::now() < deadline,
                        std::string(to_text(record->state)) << ": " << record->progress.note);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

void roll_back(MoveWorld& world, MoveId move) {
    const auto asked = world.mover().rollback(move);
    REQUIRE_MESSAGE(asked.has_value(), (asked ? std::string() : asked.error().message));
    world.wait_for(move, {MoveState::rolled_back});
}

// Stops the mover as soon as the move is in this state, and begins again as a new process would.
void restart_in(MoveWorld& world, MoveState state, const std::function<void()>& begin) {
    std::atomic<bool> reached{false};
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        if (event.type == "state" && event.record.state == state) reached.store(true);
    });
    begin();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!reached.load() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    REQUIRE(reached.load());
    world.mover().stop();
    world.mover().unsubscribe(subscription);
    world.restart_mover();
    world.mover().recover();
}

}  // namespace

TEST_CASE("a tenant comes back with everything that was written since, and moves again") {
    MoveWorld world(true);
    Writers writers(world, 3);
    writers.start();
    for (int round = 0; round < 2; ++round) {
        const auto moved = world.run(world.request(), MoveState::reversing);
        CHECK(moved.rollback_refused == "");
        writers.wait_for_more(150);
        CHECK(world.where_tenant_lives() == "own-1/acme_own");
        roll_back(world, moved.id);
        MESSAGE("pause ms: " << world.mover().find(moved.id)->progress.pause_ms);
        writers.wait_for_more(30);
        CHECK(world.mover().rollback(moved.id).error().kind == ErrorKind::conflict);
        CHECK(world.mover().complete(moved.id).error().kind == ErrorKind::conflict);
    }
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    check_tenant_is_back(world);
}

TEST_CASE("on one server, and not only the ledger is the same") {
    MoveWorld world;
    Writers writers(world, 2);
    writers.start();
    const auto moved = world.run(world.request(), MoveState::reversing);
    writers.wait_for_more(100);
    writers.stop();
    const auto before = world.fingerprint(world.target_server(), "acme_own");
    roll_back(world, moved.id);
    CHECK(world.fingerprint(world.source_server(), "shared") == before);
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    check_tenant_is_back(world);
}

TEST_CASE("the way back goes on after restarts and broken connections") {
    MoveWorld world(true);
    Writers writers(world, 2);
    writers.start();
    const auto moved = world.run(world.request(), MoveState::reversing);
    writers.wait_for_more(50);
    const std::string end_ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgporter_mover'";
    SUBCASE("restart") {
        world.restart_mover();
        writers.wait_for_more(100);
        world.mover().recover();
    }
    SUBCASE("the source's connections") { MoveWorld::sql(world.source_server(), "shared", end_ours); }
    SUBCASE("the target's connections") { MoveWorld::sql(world.target_server(), "postgres", end_ours); }
    writers.wait_for_more(50);
    world.wait_for(moved.id, {MoveState::reversing});
    // Asked for while it connects again: a conflict that says so, or it is done.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!world.mover().rollback(moved.id) && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    world.wait_for(moved.id, {MoveState::rolled_back});
    writers.wait_for_more(20);
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    check_tenant_is_back(world);
}

TEST_CASE("a process that ends at any point of the way back") {
    MoveWorld world(true);
    Writers writers(world, 2);
    writers.start();
    MoveId id;
    for (const auto state : {MoveState::opened, MoveState::reversing, MoveState::rolling_back, MoveState::flipped_back}) {
        CAPTURE(to_text(state));
        const bool before_rollback = state == MoveState::opened || state == MoveState::reversing;
        const auto start = [&] {
            const auto started = world.mover().start(world.request());
            REQUIRE_MESSAGE(started.has_value(), (started ? std::string() : started.error().message));
            id = started->id;
        };
        const auto back = [&] {
            world.wait_for(id, {MoveState::reversing});
            REQUIRE(world.mover().rollback(id).has_value());
        };
        if (!before_rollback) start();
        restart_in(world, state, before_rollback ? std::function<void()>(start) : std::function<void()>(back));
        writers.wait_for_more(20);
        if (before_rollback) back();
        world.wait_for(id, {MoveState::rolled_back});
        writers.wait_for_more(20);
    }
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    check_tenant_is_back(world);
}

TEST_CASE("the catalog's answers get lost") {
    MoveWorld world;
    Writers writers(world, 2);
    writers.start();
    const auto moved = world.run(world.request(), MoveState::reversing);
    writers.wait_for_more(20);
    SUBCASE("the flip back wasn't written") { world.journal().fail_flip(false); }
    SUBCASE("the flip back was written") { world.journal().fail_flip(true); }
    SUBCASE("rolling_back was written") { world.journal().fail_advance(MoveState::rolling_back, true); }
    SUBCASE("rolled_back was written") { world.journal().fail_advance(MoveState::rolled_back, true); }
    roll_back(world, moved.id);
    writers.wait_for_more(20);
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    check_tenant_is_back(world);
}

TEST_CASE("a rollback gives way to what doesn't end") {
    MoveWorld world;
    world.config().mover.cutover_attempts_max = 3;
    const auto moved = world.run(world.request(), MoveState::reversing);
    world.gate().begin_transaction();
    REQUIRE(world.mover().rollback(moved.id).has_value());
    wait_for_note(world, moved.id, "gave way 3 times");
    CHECK(world.wait_for(moved.id, {MoveState::reversing}).rollback_refused == "");
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
    CHECK_FALSE(world.gate().held());
    world.on_target("UPDATE acme.odd SET \"select\" = 77");  // its fence is off
    world.gate().end_transaction();
    roll_back(world, moved.id);
    CHECK(world.on_source("SELECT DISTINCT \"select\" FROM acme.odd") == "77");
    check_tenant_is_back(world);
}

TEST_CASE("what isn't equal doesn't come back") {
    MoveWorld world;
    const auto moved = world.run(world.request(), MoveState::reversing);
    auto completion = Completion::checked;
    SUBCASE("a row of the source") {
        world.on_source("ALTER TABLE acme.orders DISABLE TRIGGER ALL; UPDATE acme.orders SET total = total + 1 WHERE id = 5");
        REQUIRE(world.mover().rollback(moved.id).has_value());
        wait_for_note(world, moved.id, "differ");
        // Nor is it dropped, unless somebody says so.
        world.wait_for(moved.id, {MoveState::reversing});
        REQUIRE(world.mover().complete(moved.id).has_value());
        wait_for_note(world, moved.id, "not completed: source and target differ: acme.orders");
        CHECK(has_request_failed(*world.mover().find(moved.id)));
        world.on_target("UPDATE acme.odd SET \"select\" = 77");
        CHECK(world.on_source("SELECT count(*) FROM acme.orders WHERE id = 5") == "1");
        completion = Completion::unchecked;
    }
    SUBCASE("the definition") {
        world.on_target("CREATE TABLE acme.later (id int PRIMARY KEY)");
        REQUIRE(world.mover().rollback(moved.id).has_value());
        wait_for_note(world, moved.id, "rollback failed");
    }
    world.wait_for(moved.id, {MoveState::reversing});
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
    world.on_target("UPDATE acme.odd SET \"select\" = 78");
    REQUIRE(world.mover().complete(moved.id, completion).has_value());
    world.wait_for(moved.id, {MoveState::completed});
    CHECK(world.artefacts() == "");
    CHECK(world.on_target("SELECT DISTINCT \"select\" FROM acme.odd") == "78");
}

TEST_CASE("a change of the definition is said at once, and undone there is a rollback again") {
    MoveWorld world;
    const auto moved = world.run(world.request(), MoveState::reversing);
    world.on_target("CREATE TABLE acme.later (id int PRIMARY KEY)");
    wait_for_note(world, moved.id, "was changed after the flip");
    REQUIRE(world.mover().rollback(moved.id).has_value());
    wait_for_note(world, moved.id, "rollback failed: the definition of schema acme was changed after the flip");
    CHECK(has_request_failed(*world.mover().find(moved.id)));
    world.on_target("DROP TABLE acme.later");
    roll_back(world, moved.id);
    check_tenant_is_back(world);
}

TEST_CASE("what is in the tenant's database beside its schema isn't dropped with it") {
    MoveWorld world;
    const auto moved = world.run(world.request(), MoveState::reversing);
    std::string undo;
    SUBCASE("a table") {
        world.on_target("CREATE TABLE public.notes (id int)");
        REQUIRE(world.mover().rollback(moved.id).has_value());
        wait_for_note(world, moved.id, "would be lost with it: public.notes");
        undo = "DROP TABLE public.notes";
    }
    SUBCASE("a large object") {
        world.on_target("SELECT lo_create(4711)");
        REQUIRE(world.mover().rollback(moved.id).has_value());
        wait_for_note(world, moved.id, "would be lost with it: large objects");
        undo = "SELECT lo_unlink(4711)";
    }
    CHECK(world.mover().find(moved.id)->state == MoveState::reversing);
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
    world.on_target(undo);
    roll_back(world, moved.id);
    check_tenant_is_back(world);
}

TEST_CASE("the fence lets only the way back through, not everybody with the mover's role") {
    MoveWorld world;
    const auto moved = world.run(world.request(), MoveState::reversing);
    auto mover = PgConnection::connect_dsn(world.source_server().dsn("shared", "pgporter_mover"), Secret{}, "somebody");
    REQUIRE(mover.has_value());
    const auto refused = mover->exec("UPDATE acme.odd SET \"select\" = 5");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().sqlstate == "PP001");
    world.on_target("UPDATE acme.odd SET \"select\" = 6");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (world.on_source("SELECT DISTINCT \"select\" FROM acme.odd") != "6") {
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    roll_back(world, moved.id);
    check_tenant_is_back(world);
}

TEST_CASE("what is asked at another instance is done by the one that follows the way back") {
    MoveWorld world(true);
    Writers writers(world, 2);
    writers.start();
    auto moved = world.run(world.request(), MoveState::reversing);
    Mover other({world.config(), world.journal(), world.gate(), world.publisher(), world.registry()});
    REQUIRE(other.rollback(moved.id).has_value());
    world.wait_for(moved.id, {MoveState::rolled_back});
    writers.wait_for_more(20);
    moved = world.run(world.request(), MoveState::reversing);
    writers.wait_for_more(20);
    REQUIRE(other.complete(moved.id).has_value());
    world.wait_for(moved.id, {MoveState::completed});
    CHECK(other.rollback(moved.id).error().kind == ErrorKind::conflict);
    writers.wait_for_more(20);
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    CHECK(world.artefacts() == "");
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
}

TEST_CASE("a lost slot is said, not hidden") {
    MoveWorld world(true);
    const auto moved = world.run(world.request(), MoveState::reversing);
    const auto slot = "pgporter_back_" + std::to_string(moved.id.value);
    // As max_slot_wal_keep_size does: whoever reads is ended, then it is gone.
    MoveWorld::sql(world.target_server(), "acme_own",
                   "DO $$ BEGIN LOOP BEGIN PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '" +
                       slot + "' AND active; PERFORM pg_drop_replication_slot('" + slot +
                       "'); RETURN; EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.01); END; END LOOP; END $$");
    const auto record = world.wait_for(moved.id, {MoveState::opened});
    CHECK(record.rollback_refused.find("no longer has the replication slot") != std::string::npos);
    const auto refused = world.mover().rollback(moved.id);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message.find("no longer has the replication slot") != std::string::npos);
    world.on_target("UPDATE acme.odd SET \"select\" = 78");
    REQUIRE(world.mover().complete(moved.id).has_value());
    world.wait_for(moved.id, {MoveState::completed});
    CHECK(world.artefacts() == "");
    CHECK(world.target_exists());
}
