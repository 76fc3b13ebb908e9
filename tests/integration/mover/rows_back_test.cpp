// A tenant that was rows of shared tables comes back to them with everything that it wrote, and its neighbours notice nothing.
#include <doctest/doctest.h>

#include <atomic>
#include <functional>

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

void wait_until(const std::string& what, const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
        REQUIRE_MESSAGE(std::chrono::steady_clock::now() < deadline, what);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

void ask_back(RowsWorld& world, MoveId move) {
    const auto asked = world.moves().mover().rollback(move);
    REQUIRE_MESSAGE(asked.has_value(), (asked ? std::string() : asked.error().message));
}

void roll_back(RowsWorld& world, MoveId move) {
    ask_back(world, move);
    world.moves().wait_for(move, {MoveState::rolled_back});
}

void check_red_is_back(RowsWorld& world) {
    CHECK(world.where_red_lives() == "shared-1/crm");
    CHECK(world.artefacts() == "");
    CHECK_FALSE(world.target_exists());
    CHECK_FALSE(world.moves().gate().held());
    CHECK(world.as_app(world.moves().source_server(), "crm", 1, "UPDATE docs SET n = n") == "");
    // Nobody gets a number again that somebody else has.
    CHECK(world.on_crm("SELECT last_value >= (SELECT max(id) FROM docs WHERE id < 100000) FROM docs_id_seq") == "t");
}

}  // namespace

TEST_CASE("rows come back with everything that was written since, while everybody works") {
    for (const bool two_servers : {true, false}) {
        CAPTURE(two_servers);
        RowsWorld world(two_servers);
        world.make_keys_safe();
        RowsTraffic traffic(world);
        traffic.leave_global_tables_alone();
        traffic.start();
        for (int round = 0; round < (two_servers ? 2 : 1); ++round) {
            const auto moved = world.run(MoveState::reversing);
            CHECK(moved.rollback_refused == "");
            traffic.wait_for_more(300);
            CHECK(world.where_red_lives() == "own-1/red_own");
            roll_back(world, moved.id);
            MESSAGE("pause ms: " << world.moves().mover().find(moved.id)->progress.pause_ms);
            traffic.wait_for_more(50);
        }
        traffic.stop();
        CHECK(traffic.failures() == "");
        CHECK(traffic.judge() == "");
        CHECK(traffic.slowest_neighbour_ms() < 3'000);
        check_red_is_back(world);
    }
}

TEST_CASE("what comes back is what was there, row by row, and nobody else's rows are touched") {
    RowsWorld world;
    world.make_keys_safe();
    const auto moved = world.run(MoveState::reversing);
    const auto others = world.source_rows("2, 3");
    auto& own = world.moves().target_server();
    const auto lowest = world.on_own("SELECT min(id) FROM docs");
    world.as_app(own, "red_own", 1, "INSERT INTO docs (title, body) VALUES ('own', repeat(md5('a'), 200))");
    world.as_app(own, "red_own", 1, "UPDATE docs SET n = 5, body = NULL WHERE id % 2 = 0");
    world.as_app(own, "red_own", 1, "DELETE FROM slugs WHERE hits = 0");
    world.as_app(own, "red_own", 1, "UPDATE events SET day = day + 180 WHERE day < '2024-08-01'");
    // To empty a table of one's own isn't to empty everybody's.
    world.on_own("TRUNCATE notes, ledger");
    world.on_own("INSERT INTO ledger VALUES (1, 1, 1, 1)");
    const auto mine = world.target_rows();
    roll_back(world, moved.id);
    CHECK(world.source_rows("1") == mine);
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.on_crm("SELECT count(*) FROM notes WHERE tenant_id <> 1") == "30");
    CHECK(world.on_crm("SELECT n FROM docs WHERE title = 'own'") == "0");
    CHECK(lowest != "");
    check_red_is_back(world);
}

TEST_CASE("without safe keys there is no way back, and preflight names the indexes") {
    RowsWorld world;
    const auto report = world.moves().mover().preflight(world.request());
    REQUIRE(report.has_value());
    std::string warned;
    for (const auto& warning : report->warnings) {
        if (warning.code == "no_way_back") warned += warning.object + "\n";
    }
    // Not those of ids that sequences draw, nor the one with the tenant column.
    CHECK(warned == "slugs_by_slug on public.slugs\n");
    const auto record = world.run(MoveState::opened);
    CHECK(record.rollback_refused.find("slugs_by_slug") != std::string::npos);
    CHECK(world.moves().mover().rollback(record.id).error().kind == ErrorKind::conflict);

    world.make_keys_safe();
    world.on_crm(
        "CREATE TABLE cards (tenant_id int, id uuid PRIMARY KEY, doc bigint UNIQUE REFERENCES docs, number int, n int DEFAULT nextval('invoice_numbers'));"
        "CREATE UNIQUE INDEX by_number ON cards (number) INCLUDE (tenant_id);"
        "CREATE UNIQUE INDEX by_n ON cards (n);"
        "CREATE UNIQUE INDEX by_expression ON cards (lower(number::text));"
        "CREATE UNIQUE INDEX by_both ON cards (number, tenant_id);"
        "ALTER SEQUENCE invoice_numbers CYCLE");
    auto request = world.request();
    request.tenant = "green";
    request.database = "green_own";
    const auto again = world.moves().mover().preflight(request);
    REQUIRE(again.has_value());
    warned.clear();
    for (const auto& warning : again->warnings) {
        if (warning.code == "no_way_back") warned += warning.object + "\n";
    }
    CHECK(warned == "by_expression on public.cards\nby_n on public.cards\nby_number on public.cards\n");
}

TEST_CASE("ids are kept apart: the tenant draws from blocks, also when one is used up") {
    RowsWorld world;
    world.make_keys_safe();
    world.moves().config().mover.reserved_ids = 1'000;
    const auto before = std::stoll(world.on_crm("SELECT last_value FROM docs_id_seq"));
    const auto moved = world.run(MoveState::reversing);
    CHECK(std::stoll(world.on_crm("SELECT last_value FROM docs_id_seq")) == before + 1'000);
    auto& own = world.moves().target_server();
    CHECK(world.as_app(own, "red_own", 1, "INSERT INTO docs (title) VALUES ('own') RETURNING id") == std::to_string(before + 1));
    // Sequences that keep nothing apart aren't touched.
    CHECK(world.on_crm("SELECT last_value FROM invoice_numbers") == world.on_own("SELECT last_value FROM invoice_numbers"));
    world.as_app(own, "red_own", 1, "INSERT INTO docs (title) SELECT 'own' FROM generate_series(1, 600)");
    // As text: a sequence that is being altered may show no row at all for a moment.
    wait_until("another block", [&] { return world.on_crm("SELECT last_value FROM docs_id_seq") == std::to_string(before + 2'000); });
    wait_until("it is used", [&] { return world.on_own("SELECT last_value FROM docs_id_seq") == std::to_string(before + 1'001); });
    world.as_app(own, "red_own", 1, "INSERT INTO docs (title) SELECT 'own' FROM generate_series(1, 10)");
    world.as_app(world.moves().source_server(), "crm", 2, "INSERT INTO docs (title) SELECT 'greens' FROM generate_series(1, 10)");
    world.moves().restart_mover();
    world.moves().mover().recover();
    world.moves().wait_for(moved.id, {MoveState::reversing});
    world.as_app(own, "red_own", 1, "INSERT INTO parts (tenant_id, label) SELECT 1, 'own' FROM generate_series(1, 10)");
    const auto mine = world.target_rows();
    wait_until("asked", [&] { return world.moves().mover().rollback(moved.id).has_value(); });
    world.moves().wait_for(moved.id, {MoveState::rolled_back});
    CHECK(world.source_rows("1") == mine);
    check_red_is_back(world);
}

TEST_CASE("numbers that only differ within a tenant go on where the tenant has got to") {
    RowsWorld world;
    world.make_keys_safe();
    world.moves().config().mover.reserved_ids = 100;
    world.on_crm("CREATE TABLE tickets (tenant_id int, id serial, PRIMARY KEY (tenant_id, id)); INSERT INTO tickets (tenant_id) SELECT 2 FROM generate_series(1, 5)");
    const auto moved = world.run(MoveState::reversing);
    CHECK(world.on_crm("SELECT last_value FROM tickets_id_seq") == "5");
    world.on_own("INSERT INTO tickets (tenant_id) SELECT 1 FROM generate_series(1, 50)");
    roll_back(world, moved.id);
    CHECK(std::stoll(world.on_crm("INSERT INTO tickets (tenant_id) VALUES (1) RETURNING id")) > 55);
    check_red_is_back(world);
}

TEST_CASE("a number that could be another's ends the way back, and reaches no shared table") {
    RowsWorld world;
    world.make_keys_safe();
    world.moves().config().mover.reserved_ids = 100;
    const auto others = world.source_rows("2, 3");
    const auto moved = world.run(MoveState::reversing);
    auto& own = world.moves().target_server();
    std::string reason;
    SUBCASE("more were drawn at once than were reserved") {
        world.as_app(own, "red_own", 1, "INSERT INTO docs (title) SELECT 'own' FROM generate_series(1, 500)");
        reason = "reserved";
    }
    SUBCASE("the application says a number of its own") {
        world.as_app(own, "red_own", 1, "INSERT INTO docs (id, title) VALUES (50000, 'own')");
        reason = "reserved";
    }
    SUBCASE("another tenant's number of old") {
        world.on_own("INSERT INTO docs (id, tenant_id, title) VALUES (" + world.on_crm("SELECT min(id) FROM docs WHERE tenant_id = 2") + ", 1, 'own')");
        reason = "docs_pkey";
    }
    const auto record = world.moves().wait_for(moved.id, {MoveState::opened});
    CHECK(record.rollback_refused.find(reason) != std::string::npos);
    MESSAGE(record.rollback_refused);
    CHECK(world.where_red_lives() == "own-1/red_own");
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE title = 'own'") == "0");
    CHECK(world.as_app(world.moves().source_server(), "crm", 1, "UPDATE docs SET n = 1").substr(0, 5) == "PP001");
    REQUIRE(world.moves().mover().complete(moved.id).has_value());
    world.moves().wait_for(moved.id, {MoveState::completed});
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.artefacts() == "target  catalog entry");
}

TEST_CASE("rows of the tenant's database that aren't its own don't go into the shared tables, and refuse the rollback") {
    RowsWorld world;
    world.make_keys_safe();
    const auto moved = world.run(MoveState::reversing);
    const auto others = world.source_rows("2, 3");
    const auto mine = world.on_own("SELECT min(id) FROM docs");
    world.on_own("INSERT INTO docs (tenant_id, title) VALUES (2, 'slipped in'); INSERT INTO billing.accounts VALUES (3, 90000, 1, 'slipped in'); "
                 "UPDATE docs SET tenant_id = 3 WHERE id = " + mine);
    ask_back(world, moved.id);
    wait_for_note(world, moved.id, "have another tenant_id than the tenant's key");
    world.moves().wait_for(moved.id, {MoveState::reversing});
    CHECK(world.where_red_lives() == "own-1/red_own");
    CHECK(world.source_rows("2, 3") == others);
    world.on_own("DELETE FROM docs WHERE tenant_id = 2; DELETE FROM billing.accounts WHERE tenant_id = 3; UPDATE docs SET tenant_id = 1 WHERE tenant_id = 3");
    const auto rows = world.target_rows();
    roll_back(world, moved.id);
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.source_rows("1") == rows);
    check_red_is_back(world);
}

TEST_CASE("a row that isn't the tenant's and comes in the last moment is found in the pause") {
    RowsWorld world;
    world.make_keys_safe();
    const auto moved = world.run(MoveState::reversing);
    const auto others = world.source_rows("2, 3");
    const auto subscription = world.moves().mover().subscribe([&](const MoveEvent& event) {
        // On the move's thread: all rows have been looked at.
        if (event.type == "state" && event.record.state == MoveState::rolling_back)
            world.on_own("INSERT INTO billing.accounts VALUES (3, 90000, 1, 'slipped in') ON CONFLICT DO NOTHING");
    });
    ask_back(world, moved.id);
    wait_for_note(world, moved.id, "differ");
    world.moves().mover().unsubscribe(subscription);
    CHECK(world.where_red_lives() == "own-1/red_own");
    CHECK(world.source_rows("2, 3") == others);
    world.on_own("DELETE FROM billing.accounts WHERE tenant_id = 3");
    roll_back(world, moved.id);
    CHECK(world.source_rows("2, 3") == others);
    check_red_is_back(world);
}

TEST_CASE("what the tenant did to its copy of a global table stays behind only when somebody says so") {
    RowsWorld world;
    world.make_keys_safe();
    const auto moved = world.run(MoveState::reversing);
    const auto everybodys = world.on_crm("SELECT sum(hashtext(c::text)) FROM countries c");
    const auto back = "pgporter_back_" + std::to_string(moved.id.value);
    world.on_own("UPDATE countries SET visits = visits + 1 WHERE code < 'c2'; INSERT INTO countries VALUES ('new', 'its own')");
    world.on_own("INSERT INTO docs (tenant_id, title, country) VALUES (1, 'there', 'new')");
    ask_back(world, moved.id);
    wait_for_note(world, moved.id, "its own copy of global tables since the flip: public.countries (12 changes)");
    world.moves().wait_for(moved.id, {MoveState::reversing});
    // Left behind; but a row of the tenant needs one of it.
    world.on_crm("DELETE FROM " + back + ".left_behind");
    ask_back(world, moved.id);
    wait_for_note(world, moved.id, "1 rows of the tenant in public.docs refer by docs_country_fkey");
    world.moves().wait_for(moved.id, {MoveState::reversing});
    CHECK(world.on_crm("SELECT sum(hashtext(c::text)) FROM countries c") == everybodys);
    world.on_crm("INSERT INTO countries VALUES ('new', 'everybodys')");
    roll_back(world, moved.id);
    CHECK(world.on_crm("SELECT name FROM countries WHERE code = 'new'") == "everybodys");
    CHECK(world.on_crm("SELECT title FROM docs WHERE country = 'new'") == "there");
    check_red_is_back(world);
}

TEST_CASE("the fence of rows lets only the way back through, not everybody with the mover's role") {
    RowsWorld world;
    world.make_keys_safe();
    const auto moved = world.run(MoveState::reversing);
    auto mover = PgConnection::connect_dsn(world.moves().source_server().dsn("crm", "pgporter_mover"), Secret{}, "somebody");
    REQUIRE(mover.has_value());
    const auto refused = mover->exec("UPDATE docs SET n = 1 WHERE tenant_id = 1");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().sqlstate == "PP001");
    world.on_own("UPDATE docs SET n = 6");
    wait_until("it came back", [&] { return world.on_crm("SELECT count(*) FROM docs WHERE n = 6") == "1000"; });
    roll_back(world, moved.id);
    check_red_is_back(world);
}

TEST_CASE("a process that ends at any point of the way back of rows") {
    RowsWorld world(true);
    world.make_keys_safe();
    RowsTraffic traffic(world);
    traffic.leave_global_tables_alone();
    traffic.start();
    MoveId id;
    for (const auto state : {MoveState::opened, MoveState::reversing, MoveState::rolling_back, MoveState::flipped_back}) {
        CAPTURE(to_text(state));
        const bool before_rollback = state == MoveState::opened || state == MoveState::reversing;
        const auto start = [&] {
            const auto started = world.moves().mover().start(world.request());
            REQUIRE_MESSAGE(started.has_value(), (started ? std::string() : started.error().message));
            id = started->id;
        };
        const auto back = [&] {
            world.moves().wait_for(id, {MoveState::reversing});
            ask_back(world, id);
        };
        if (!before_rollback) start();
        std::atomic<bool> reached{false};
        const auto subscription = world.moves().mover().subscribe([&](const MoveEvent& event) {
            if (event.type == "state" && event.record.state == state) reached.store(true);
        });
        if (before_rollback) {
            start();
        } else {
            back();
        }
        wait_until("the state", [&] { return reached.load(); });
        world.moves().mover().stop();
        world.moves().mover().unsubscribe(subscription);
        world.moves().restart_mover();
        world.moves().mover().recover();
        traffic.wait_for_more(20);
        if (before_rollback) back();
        world.moves().wait_for(id, {MoveState::rolled_back});
        traffic.wait_for_more(20);
    }
    traffic.stop();
    CHECK(traffic.failures() == "");
    CHECK(traffic.judge() == "");
    check_red_is_back(world);
}

TEST_CASE("an operator's entry of the target database outlives an undone move") {
    RowsWorld world;
    MoveWorld::sql(world.moves().source_server(), "catalog",
                   "INSERT INTO pgporter.databases (cluster, name, tenant_setting, tenant_column) VALUES ('own-1', 'red_own', 'app.tenant', 'tenant_id')");
    world.reload();
    auto request = world.request();
    request.cutover = false;
    const auto started = world.moves().mover().start(request);
    REQUIRE(started.has_value());
    world.moves().wait_for(started->id, {MoveState::verify});
    REQUIRE(world.moves().mover().cancel(started->id).has_value());
    world.moves().wait_for(started->id, {MoveState::aborted});
    CHECK(world.artefacts() == " catalog entry");
}
