// What would harm a server ends the move: nothing is left of it, and the tenant is where it was.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/writers.hpp"
#include "tests/support/becomes_true.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

constexpr const char* eight_mib_of_log = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1048576)) FROM generate_series(1, 8)";

std::uint64_t hits(MoveWorld& world, const char* guard) {
    return world.registry().counter("pgporter_move_guards_hit_total", "", {{"guard", guard}}).value();
}

// Does something when the move has entered a state, and keeps it there until the guard has seen it.
MoveRecord run_until_hit(MoveWorld& world, MoveState state, const char* guard, const std::function<void()>& act) {
    std::atomic<bool> seen{false};
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        if (event.type != "state" || event.record.state != state || seen.exchange(true)) return;
        act();
        for (int i = 0; i < 3'000 && hits(world, guard) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    });
    const auto record = world.run(world.request(), MoveState::aborted);
    world.mover().unsubscribe(subscription);
    CHECK(hits(world, guard) == 1);
    // Counted once the journal has it.
    CHECK(becomes_true([&] { return world.registry().counter("pgporter_moves_finished_total", "", {{"outcome", "aborted"}}).value() == 1; }));
    CHECK(world.artefacts() == "");
    CHECK_FALSE(world.target_exists());
    CHECK(world.where_tenant_lives() == "shared-1/shared");
    world.on_source("UPDATE acme.orders SET total = 1 WHERE id = 1");  // not fenced
    return record;
}

}  // namespace

TEST_CASE("a source that would have to keep too much of its log ends the move") {
    MoveWorld world;
    world.config().mover.source_wal_mib_max = 4;
    Writers writers(world, 2);
    writers.start();
    const auto record = run_until_hit(world, MoveState::copy, "source_wal", [&] { world.on_source(eight_mib_of_log); });
    CHECK(record.error.find("mover.source_wal_mib_max (4 MiB)") != std::string::npos);
    writers.stop();
    CHECK(writers.failures() == "");
}

TEST_CASE("a slot that the source has given up ends the move at once, not after the copy") {
    MoveWorld world;
    const auto record = run_until_hit(world, MoveState::copy, "slot_lost", [&] {
        world.on_source("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
        world.on_source("SELECT pg_reload_conf()");
        for (int i = 0; i < 6; ++i) {
            world.on_source(eight_mib_of_log);
            world.on_source("SELECT pg_switch_wal()");
        }
        world.on_source("CHECKPOINT");
    });
    CHECK(record.error.find("max_slot_wal_keep_size") != std::string::npos);
}

TEST_CASE("a tenant that takes more than the target may give ends the move") {
    MoveWorld world;
    SUBCASE("known beforehand") {
        world.config().mover.target_mib_max = 1;
        world.on_source("INSERT INTO acme.orders (customer_id, total, note) SELECT (SELECT min(id) FROM acme.customers), 1, "
            "repeat(md5(i::text), 20) FROM generate_series(1, 5000) AS i");
        const auto report = world.mover().preflight(world.request());
        REQUIRE(report.has_value());
        bool named = false;
        for (const auto& blocker : report->blockers) named |= blocker.code == "too_large";
        CHECK(named);
    }
    SUBCASE("found out on the way") {
        world.config().mover.target_mib_max = 30;
        const auto record = run_until_hit(world, MoveState::copy, "target_size", [&] {
            world.on_target("CREATE TABLE public.junk AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 60000) AS i");
        });
        CHECK(record.error.find("mover.target_mib_max (30 MiB)") != std::string::npos);
    }
}

TEST_CASE("a copy that holds a snapshot for too long ends the move") {
    MoveWorld world;
    world.config().mover.snapshot_age_ms_max = std::chrono::milliseconds(500);
    // What can't be stored here stands for what takes long to store.
    std::unique_ptr<PgConnection> blocker;
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        if (event.type != "state" || event.record.state != MoveState::copy || blocker) return;
        auto connection = PgConnection::connect_dsn(world.target_server().dsn("acme_own"), Secret{}, "test");
        REQUIRE(connection.has_value());
        blocker = std::make_unique<PgConnection>(*std::move(connection));
        REQUIRE(blocker->exec("BEGIN; LOCK TABLE acme.orders IN ACCESS EXCLUSIVE MODE").has_value());
    });
    const auto move = world.mover().start(world.request());
    REQUIRE(move.has_value());
    CHECK(becomes_true([&] { return hits(world, "snapshot_age") == 1; }, std::chrono::seconds(30)));
    blocker.reset();  // what is locked can't be dropped
    const auto record = world.wait_for(move->id, {MoveState::aborted, MoveState::reversing});
    world.mover().unsubscribe(subscription);
    CHECK(record.error.find("mover.snapshot_age_ms_max (500 ms)") != std::string::npos);
    CHECK(world.artefacts() == "");
    CHECK_FALSE(world.target_exists());
}

TEST_CASE("a move that falls behind the application says so, and ends at its bound") {
    MoveWorld world;
    world.config().mover.source_wal_mib_max = 40;
    world.config().mover.catchup_window_ms = std::chrono::milliseconds(2'000);
    std::unique_ptr<PgConnection> blocker;
    std::atomic<bool> caught{false};
    std::atomic<bool> said{false};
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        if (event.type != "state" || event.record.state != MoveState::catchup || caught.exchange(true)) return;
        // What can't be applied here stands for what can't be applied fast enough.
        auto connection = PgConnection::connect_dsn(world.target_server().dsn("acme_own"), Secret{}, "test");
        REQUIRE(connection.has_value());
        blocker = std::make_unique<PgConnection>(*std::move(connection));
        REQUIRE(blocker->exec("BEGIN; LOCK TABLE acme.orders IN EXCLUSIVE MODE").has_value());
        world.on_source("UPDATE acme.orders SET total = total + 1 WHERE id = 1");
    });
    const auto started = world.mover().start(world.request());
    REQUIRE(started.has_value());
    MoveRecord record;
    auto& behind = world.registry().gauge("pgporter_moves_falling_behind", "");
    for (int i = 0; i < 600; ++i) {
        record = *world.mover().find(started->id);
        if (record.state == MoveState::aborting || record.state == MoveState::aborted) break;
        if (caught.load() && (!said.load() || i > 400)) world.on_source("SELECT pg_logical_emit_message(false, 'test', repeat('x', 200000))");
        const bool has_note = record.progress.note.find("written to faster than its changes can be applied") != std::string::npos;
        if (has_note && behind.value() == 1 && !said.exchange(true)) {
            CHECK(record.progress.source_wal_bytes > 1'048'576);
            for (int k = 0; k < 6; ++k) world.on_source(eight_mib_of_log);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    CHECK(said.load());
    CHECK(hits(world, "source_wal") == 1);
    blocker.reset();  // what is locked can't be dropped
    record = world.wait_for(started->id, {MoveState::aborted});
    CHECK(record.error.find("mover.source_wal_mib_max (40 MiB)") != std::string::npos);
    CHECK(behind.value() == 0);
    world.mover().unsubscribe(subscription);
    CHECK(world.artefacts() == "");
    CHECK(world.where_tenant_lives() == "shared-1/shared");
}
