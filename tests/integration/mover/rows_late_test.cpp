// Who comes late: to the shared tables that a tenant has left, to a row that hasn't been copied yet, to the name of a database.
#include <doctest/doctest.h>

#include "tests/integration/mover/rows_world.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

void wait_for_note(RowsWorld& world, MoveId move, const std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (;;) {
        const auto record = world.moves().mover().find(move);
        REQUIRE(record.has_value());
        if (record->progress.note.find(text) != std::string::npos) return;
        REQUIRE_MESSAGE(std::chrono::steady_clock::now() < deadline, std::string(to_text(record->state)) << ": " << record->progress.note);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

}  // namespace

TEST_CASE("complete keeps the fence for as long as a connection has been silent since the flip") {
    RowsWorld world;
    world.moves().config().mover.late_writer_ms = std::chrono::milliseconds(1'000);
    auto& source = world.moves().source_server();
    // As an instance's that was stopped when it had decided where to go, and hadn't sent anything yet.
    auto late = PgConnection::connect_dsn(source.dsn("crm", "app"), Secret{}, "late");
    REQUIRE(late.has_value());
    REQUIRE(late->exec("SET app.tenant = '1'").has_value());
    const auto others = world.source_rows("2, 3");
    const auto record = world.run(MoveState::opened);
    REQUIRE(world.moves().mover().complete(record.id).has_value());
    wait_for_note(world, record.id, "have been silent since the flip: pid");
    CHECK(world.source_rows("1") == "docs 0|0\nparts 0|0\nbilling.accounts 0|0\nnotes 0|0\nslugs 0|0\nledger 0|0\nevents 0|0\n");
    CHECK(world.moves().mover().find(record.id)->state == MoveState::opened);
    // It is refused; and when that is some time after the flip, it has been heard.
    while (world.on_crm("SELECT clock_timestamp() > closed_at + interval '1 s' FROM pgporter_move_" + std::to_string(record.id.value) + ".gate") != "t") {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    const auto refused = late->exec("INSERT INTO docs (title) VALUES ('late')");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().sqlstate == "PP001");
    world.moves().wait_for(record.id, {MoveState::completed});
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.artefacts() == "target  catalog entry");
    // Whoever asks is told so for good, and nothing else is left.
    CHECK(world.on_crm("SELECT obj_description(c.oid, 'pg_class') = 'fenced ' || md5('1') FROM pg_class c WHERE relname = 'gate'") == "t");
    CHECK(world.on_crm("SELECT count(*) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pgporter%')") == "0");
}

TEST_CASE("a row that came in, and waits to be copied again, may change and leave before that") {
    RowsWorld world;
    auto request = world.request();
    request.cutover = false;
    const auto started = world.moves().mover().start(request);
    REQUIRE_MESSAGE(started.has_value(), (started ? std::string() : started.error().message));
    world.moves().wait_for(started->id, {MoveState::verify});
    wait_for_note(world, started->id, "waits for the cutover");
    // Their memos aren't in the stream: the key has the tenant in it, and its change doesn't touch them.
    const std::string greens = "SELECT id FROM billing.accounts WHERE tenant_id = 2 AND memo IS NOT NULL ORDER BY id";
    const auto gone = world.on_crm(greens + " LIMIT 1");
    const auto stays = world.on_crm(greens + " LIMIT 1 OFFSET 1");
    const auto renamed = world.on_crm(greens + " LIMIT 1 OFFSET 2");
    const auto erased = world.on_crm(greens + " LIMIT 1 OFFSET 3");
    for (const auto& id : {gone, stays, renamed, erased}) world.on_crm("UPDATE billing.accounts SET tenant_id = 1 WHERE tenant_id = 2 AND id = " + id);
    world.on_crm("UPDATE billing.accounts SET balance = 77 WHERE tenant_id = 1 AND id = " + stays);
    world.on_crm("UPDATE billing.accounts SET id = 70000 WHERE tenant_id = 1 AND id = " + renamed);
    world.on_crm("UPDATE billing.accounts SET tenant_id = 3 WHERE tenant_id = 1 AND id = " + gone);
    world.on_crm("DELETE FROM billing.accounts WHERE tenant_id = 1 AND id = " + erased);
    // The target's connections break, and all of it may come once more.
    MoveWorld::sql(world.moves().target_server(), "postgres",
                   "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'pgporter_mover' AND datname = 'red_own'");
    const auto red = world.source_rows("1");
    REQUIRE(world.moves().mover().cutover(started->id).has_value());
    world.moves().wait_for(started->id, {MoveState::opened});
    CHECK(world.target_rows() == red);
    CHECK(world.on_own("SELECT balance FROM billing.accounts WHERE memo IS NOT NULL AND id = " + stays) == "77");
    CHECK(world.on_own("SELECT count(*) FROM billing.accounts WHERE memo IS NOT NULL AND id = 70000") == "1");
}

TEST_CASE("a database that somebody else made is never dropped for ours") {
    RowsWorld world;
    auto& server = world.moves().target_server();
    SUBCASE("in the moment before") {
        const auto subscription = world.moves().mover().subscribe([&](const MoveEvent& event) {
            // On the move's own thread: preflight is over, nothing was made yet. An operator's, with a table.
            if (event.type == "state" && event.record.state == MoveState::schema) MoveWorld::sql(server, "postgres", "CREATE DATABASE red_own");
        });
        const auto started = world.moves().mover().start(world.request());
        REQUIRE(started.has_value());
        world.moves().wait_for(started->id, {MoveState::aborted});
        world.moves().mover().unsubscribe(subscription);
    }
    SUBCASE("while nobody was at work on the move") {
        auto request = world.request();
        request.cutover = false;
        const auto started = world.moves().mover().start(request);
        REQUIRE(started.has_value());
        world.moves().wait_for(started->id, {MoveState::verify});
        CHECK(MoveWorld::sql(server, "postgres", "SELECT shobj_description(oid, 'pg_database') LIKE 'pgporter: made as pgporter_move_%' FROM pg_database "
                                                 "WHERE datname = 'red_own'") == "t");
        world.moves().mover().stop();
        MoveWorld::sql(server, "postgres", "DROP DATABASE red_own WITH (FORCE)");
        MoveWorld::sql(server, "postgres", "CREATE DATABASE red_own");
        world.moves().restart_mover();
        world.moves().mover().recover();
        world.moves().wait_for(started->id, {MoveState::aborted});
    }
    CHECK(world.target_exists());
    CHECK(MoveWorld::sql(server, "postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'pgporter%'") == "0");
}

TEST_CASE("the mark goes when the database is the tenant's for good") {
    RowsWorld world;
    const auto record = world.run(MoveState::opened);
    REQUIRE(world.moves().mover().complete(record.id).has_value());
    world.moves().wait_for(record.id, {MoveState::completed});
    CHECK(MoveWorld::sql(world.moves().target_server(), "postgres", "SELECT shobj_description(oid, 'pg_database') IS NULL FROM pg_database WHERE datname = 'red_own'") == "t");
}
