// The cutover gives way to what can't be held in time, refuses what changed under it, and fences whoever goes round the
// proxy.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/writers.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

MoveId start_and_wait_for_caught_up(MoveWorld& world) {
    auto request = world.request();
    request.cutover = false;
    auto started = world.mover().start(request);
    REQUIRE(started.has_value());
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (;;) {
        auto record = world.mover().find(started->id);
        REQUIRE(record.has_value());
        REQUIRE_MESSAGE(!is_finished(record->state), record->error);
        if (record->progress.note.find("waits for the cutover") != std::string::npos) return started->id;
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

void wait_for_attempt(MoveWorld& world, MoveId move, const std::string& because) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
        const auto record = world.mover().find(move);
        REQUIRE(record.has_value());
        REQUIRE_MESSAGE(!is_finished(record->state), record->error);
        if (record->progress.cutover_attempts > 0 && record->progress.note.find(because) != std::string::npos) return;
        REQUIRE_MESSAGE(std::chrono::steady_clock::now() < deadline, record->progress.note);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

std::string sqlstate_on(PostgresServer& server, const std::string& database, const std::string& statement,
                        const std::string& user = "app") {
    auto connection = PgConnection::connect_dsn(server.dsn(database, user), Secret{}, "bypass");
    REQUIRE(connection.has_value());
    auto done = connection->exec(statement);
    return done ? "" : done.error().sqlstate;
}

}  // namespace

TEST_CASE("a move waits for its operator, then cuts over; later the source is dropped") {
    MoveWorld world;
    Writers writers(world, 2);
    writers.start();
    writers.stop_at_flip();
    const auto id = start_and_wait_for_caught_up(world);
    CHECK(world.gate().holds() == 0);
    writers.wait_for_more(200);
    REQUIRE(world.mover().cutover(id).has_value());
    const auto record = world.wait_for(id, {MoveState::reversing});
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    // Nobody has written since the fence: both sides are the same to the last bit, sequences too.
    CHECK(world.fingerprint(world.source_server(), "shared") == world.fingerprint(world.target_server(), "acme_own"));
    const std::string sequences =
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'acme' ORDER BY 1";
    CHECK(world.on_source(sequences) == world.on_target(sequences));
    CHECK(record.progress.rows_verified > 5000);

    // The definitions too, but for our own fence.
    const std::string definitions =
        "SELECT conrelid::regclass::text AS a, conname::text AS b, pg_get_constraintdef(oid) AS c FROM pg_constraint "
        "WHERE connamespace = 'acme'::regnamespace "
        "UNION ALL SELECT indexrelid::regclass::text, '', pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN "
        "(SELECT oid FROM pg_class WHERE relnamespace = 'acme'::regnamespace) AND indrelid::regclass::text NOT LIKE "
        "'pg_toast%' "
        "UNION ALL SELECT tgrelid::regclass::text, tgname::text, pg_get_triggerdef(oid) FROM pg_trigger "
        "WHERE NOT tgisinternal AND tgname NOT LIKE 'pgporter%' "
        "UNION ALL SELECT 'rich', 'view', pg_get_viewdef('acme.rich'::regclass) "
        "UNION ALL SELECT polrelid::regclass::text, polname::text, polcmd::text FROM pg_policy "
        "UNION ALL SELECT inhrelid::regclass::text, 'inherits', inhparent::regclass::text FROM pg_inherits "
        "UNION ALL SELECT oid::regclass::text, relreplident::text, relowner::regrole::text || coalesce(relacl::text, "
        "'') FROM pg_class "
        "WHERE relnamespace = 'acme'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S') "
        "UNION ALL SELECT attrelid::regclass::text, attname::text, concat(format_type(atttypid, atttypmod), "
        "attnotnull, attidentity, "
        "attgenerated, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = "
        "attnum)) FROM pg_attribute "
        "WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'acme'::regnamespace AND relkind <> 'i') AND "
        "attnum > 0 "
        "ORDER BY 1, 2, 3";
    CHECK(world.on_source(definitions) == world.on_target(definitions));

    // The source refuses whoever goes round the proxy, superusers too, in every way to write.
    for (const auto* write :
         {"INSERT INTO acme.ledger VALUES (99, 1, 1)", "UPDATE acme.orders SET total = 0", "DELETE FROM acme.lines",
          "TRUNCATE acme.scratch", "INSERT INTO acme.events_b (day, what) VALUES ('2025-02-02', 'x')",
          "INSERT INTO acme.events (day, what) VALUES ('2025-02-02', 'x')",
          "INSERT INTO acme.ledger VALUES (0, 1, 1) ON CONFLICT DO NOTHING",
          "SET session_replication_role = replica; DELETE FROM acme.odd",
          "COPY acme.ledger FROM PROGRAM 'echo 99,1,1' (FORMAT csv)"}) {
        CAPTURE(write);
        CHECK(sqlstate_on(world.source_server(), "shared", write, "postgres") == "PP001");
    }
    CHECK(sqlstate_on(world.source_server(), "shared", "SELECT count(*) FROM acme.orders", "postgres") == "");
    CHECK(sqlstate_on(world.target_server(), "acme_own", "UPDATE acme.odd SET \"select\" = 0", "postgres") == "");

    REQUIRE(world.mover().complete(id).has_value());
    world.wait_for(id, {MoveState::completed});
    CHECK(world.on_source("SELECT count(*) FROM pg_namespace WHERE nspname = 'acme'") == "0");
    CHECK(world.artefacts() == "");
    CHECK(world.mover().complete(id).error().kind == ErrorKind::conflict);
}

TEST_CASE("a transaction that doesn't end makes the cutover give way") {
    // Two servers: on one it would keep the slot for the way back from being made, before anything is locked.
    MoveWorld world(true);
    const auto id = start_and_wait_for_caught_up(world);
    SUBCASE("through the gate") {
        world.gate().begin_transaction();
        REQUIRE(world.mover().cutover(id).has_value());
        wait_for_attempt(world, id, "1 transaction still running");
        world.gate().end_transaction();
    }
    SUBCASE("round the proxy") {
        auto bypass = PgConnection::connect_dsn(world.source_server().dsn("shared"), Secret{}, "bypass");
        REQUIRE(bypass.has_value());
        REQUIRE(bypass->exec("BEGIN; INSERT INTO acme.ledger VALUES (50, 1, 1)").has_value());
        REQUIRE(world.mover().cutover(id).has_value());
        wait_for_attempt(world, id, "couldn't be locked in time");
        REQUIRE(bypass->exec("INSERT INTO acme.ledger VALUES (50, 2, 2); COMMIT").has_value());
    }
    SUBCASE("prepared") {
        world.on_source(
            "BEGIN; INSERT INTO acme.ledger VALUES (50, 1, 1); INSERT INTO acme.ledger VALUES (50, 2, 2); PREPARE "
            "TRANSACTION 'p'");
        REQUIRE(world.mover().cutover(id).has_value());
        wait_for_attempt(world, id, "couldn't be locked in time");
        world.on_source("COMMIT PREPARED 'p'");
    }
    world.wait_for(id, {MoveState::reversing});
    const auto bypassed = world.on_source("SELECT count(*) FROM acme.ledger WHERE writer = 50");
    CHECK(world.on_target("SELECT count(*) FROM acme.ledger WHERE writer = 50") == bypassed);
}

TEST_CASE("a transaction that keeps the way back from being prepared makes the cutover give way") {
    MoveWorld world;
    const auto id = start_and_wait_for_caught_up(world);
    auto bypass = PgConnection::connect_dsn(world.source_server().dsn("postgres"), Secret{}, "bypass");
    REQUIRE(bypass.has_value());
    REQUIRE(bypass->exec("BEGIN; SELECT txid_current()").has_value());
    REQUIRE(world.mover().cutover(id).has_value());
    wait_for_attempt(world, id, "the way back couldn't be prepared: its slot waits for transactions on the target's server: pid");
    CHECK(world.gate().holds() == 0);
    REQUIRE(bypass->exec("COMMIT").has_value());
    world.wait_for(id, {MoveState::reversing});
}

TEST_CASE("after so many attempts the operator is asked") {
    MoveWorld world;
    world.config().mover.cutover_attempts_max = 2;
    world.config().mover.drain_ms_max = std::chrono::milliseconds(20);
    world.gate().begin_transaction();
    const auto id = world.mover().start(world.request())->id;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (world.mover().find(id)->progress.cutover_attempts < 2 && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    REQUIRE(world.gate().holds() == 2);
    world.gate().end_transaction();
    std::this_thread::sleep_for(std::chrono::seconds(1));  // it would try again within half of this
    CHECK(world.gate().holds() == 2);
    CHECK(world.mover().find(id)->state == MoveState::verify);
    REQUIRE(world.mover().cutover(id).has_value());
    CHECK(world.wait_for(id, {MoveState::reversing}).progress.cutover_attempts == 2);
}

TEST_CASE("a change of the schema during the move is noticed") {
    MoveWorld world;
    std::string ddl;
    SUBCASE("column") {
        ddl = "ALTER TABLE acme.odd ADD COLUMN extra int";
    }
    SUBCASE("column, and rows in its new form") {
        ddl = "ALTER TABLE acme.odd ADD COLUMN extra int; INSERT INTO acme.odd VALUES ('z', 1, 2)";
    }
    SUBCASE("table") {
        ddl = "CREATE TABLE acme.fresh (id int)";
    }
    SUBCASE("index") {
        ddl = "CREATE INDEX ON acme.orders (total)";
    }
    SUBCASE("function") {
        ddl = "CREATE OR REPLACE FUNCTION acme.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'";
    }
    SUBCASE("enum") {
        ddl = "ALTER TYPE acme.mood ADD VALUE 'meh'";
    }
    SUBCASE("right") {
        ddl = "GRANT SELECT ON acme.odd TO app";
    }
    const auto id = start_and_wait_for_caught_up(world);
    world.on_source(ddl);
    // The stream may have told it before the cutover is asked for.
    const auto asked = world.mover().cutover(id);
    static_cast<void>(asked);
    const auto record = world.wait_for(id, {MoveState::aborted});
    CHECK(record.error.find("the application changed the definition of ") != std::string::npos);
    CHECK(world.artefacts() == "");
    CHECK_FALSE(world.target_exists());
}

TEST_CASE("what only rewrites a table is no change of the schema") {
    MoveWorld world;
    const auto id = start_and_wait_for_caught_up(world);
    for (const auto* act : {"VACUUM FULL acme.orders", "REINDEX TABLE acme.customers",
                            "REINDEX TABLE CONCURRENTLY acme.lines", "TRUNCATE acme.scratch", "ANALYZE"}) {
        CAPTURE(act);
        world.on_source(act);
    }
    REQUIRE(world.mover().cutover(id).has_value());
    world.wait_for(id, {MoveState::reversing});
}

TEST_CASE("servers that restart while the move follows are waited for, and nothing is applied twice") {
    MoveWorld world(true);
    const auto id = start_and_wait_for_caught_up(world);
    SUBCASE("the target, at once and without a goodbye") {
        world.on_source(
            "UPDATE acme.orders SET total = total + 1 WHERE id <= 100; INSERT INTO acme.ledger SELECT 60, g, g FROM "
            "generate_series(1, 1000) g");
        world.target_server().stop(PostgresServer::Stop::immediate);
        world.on_source(
            "INSERT INTO acme.ledger SELECT 61, g, g FROM generate_series(1, 1000) g; DELETE FROM acme.lines WHERE "
            "order_id = 5");
        world.target_server().restart();
    }
    SUBCASE("the source") {
        // The catalog lives there too: what the mover writes meanwhile has to wait.
        world.on_source("INSERT INTO acme.ledger SELECT 60, g, g FROM generate_series(1, 1000) g");
        world.source_server().restart();
        world.on_source("INSERT INTO acme.ledger SELECT 61, g, g FROM generate_series(1, 1000) g");
    }
    REQUIRE(world.mover().cutover(id).has_value());
    world.wait_for(id, {MoveState::reversing});
    CHECK(world.fingerprint(world.source_server(), "shared") == world.fingerprint(world.target_server(), "acme_own"));
}

TEST_CASE("a table that is truncated between the snapshot and its copy arrives as it is") {
    MoveWorld world;
    std::atomic<bool> done{false};
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        if (event.type != "state" || event.record.state != MoveState::copy || done.exchange(true)) return;
        world.on_source("UPDATE acme.scratch SET v = v + 1");
        world.on_source("DELETE FROM acme.scratch WHERE id < 10; UPDATE acme.audit SET n = 2");
        world.on_source("TRUNCATE acme.scratch, acme.audit");
        world.on_source("INSERT INTO acme.scratch (v) VALUES (1.5), (2.5)");
    });
    world.run(world.request(), MoveState::reversing);
    world.mover().unsubscribe(subscription);
    CHECK(done.load());
    CHECK(world.on_target("SELECT count(*) FROM acme.scratch") == "2");
    CHECK(world.fingerprint(world.source_server(), "shared") == world.fingerprint(world.target_server(), "acme_own"));
}
