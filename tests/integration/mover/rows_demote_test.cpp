// A tenant that has got its own database returns into the shared tables it came from, or goes to another database, with ways back.
#include <doctest/doctest.h>

#include <functional>

#include "tests/integration/mover/rows_world.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

MoveRequest request_of(MoveKind kind, const std::string& cluster, const std::string& database) {
    MoveRequest request;
    request.kind = kind;
    request.tenant = "red";
    request.cluster = cluster;
    request.database = database;
    return request;
}
const MoveRequest home = request_of(MoveKind::demote, "shared-1", "crm");

void complete(RowsWorld& world, MoveId move) {
    REQUIRE(world.moves().mover().complete(move).has_value());
    world.moves().wait_for(move, {MoveState::completed});
}

void roll_back(RowsWorld& world, MoveId move) {
    const auto asked = world.moves().mover().rollback(move);
    REQUIRE_MESSAGE(asked.has_value(), (asked ? std::string() : asked.error().message));
    world.moves().wait_for(move, {MoveState::rolled_back});
}

std::string blockers(RowsWorld& world, const MoveRequest& request) {
    const auto report = world.moves().mover().preflight(request);
    REQUIRE_MESSAGE(report.has_value(), (report ? std::string() : report.error().message));
    std::string text;
    for (const auto& blocker : report->blockers) text += blocker.code + " " + blocker.object + ": " + blocker.message + "\n";
    return text;
}

PlacementKind kind_of_red(RowsWorld& world) {
    return world.moves().publisher().current()->find_tenant("red")->placement.kind;
}

}  // namespace

TEST_CASE("rows are promoted, demoted, rolled back and demoted for good, while everybody works") {
    RowsWorld world(true);
    world.make_keys_safe();
    RowsTraffic traffic(world);
    traffic.leave_global_tables_alone();
    traffic.stay_away_from_the_source();
    traffic.start();
    complete(world, world.run(MoveState::reversing).id);
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 1") == "0");
    traffic.wait_for_more(100);

    auto moved = world.moves().run(home, MoveState::reversing);
    CHECK(moved.rollback_refused == "");
    CHECK(world.where_red_lives() == "shared-1/crm");
    CHECK(kind_of_red(world) == PlacementKind::rows);
    traffic.wait_for_more(150);
    roll_back(world, moved.id);
    CHECK(world.where_red_lives() == "own-1/red_own");
    CHECK(kind_of_red(world) == PlacementKind::database);
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 1") == "0");
    traffic.wait_for_more(50);

    moved = world.moves().run(home, MoveState::reversing);
    traffic.wait_for_more(100);
    traffic.stop();
    CHECK(traffic.failures() == "");
    CHECK(traffic.judge() == "");
    CHECK(traffic.slowest_neighbour_ms() < 3'000);
    const auto all = world.source_rows("1, 2, 3");
    complete(world, moved.id);
    CHECK(world.source_rows("1, 2, 3") == all);
    CHECK(world.on_own("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname IN ('public', 'billing')") == "0");
    CHECK(world.artefacts() == "target  catalog entry");
    // Nothing says any more that it has left, nobody gets its numbers, and it may be promoted again.
    CHECK(world.on_crm("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pgporter%'") == "0");
    CHECK(world.on_crm("SELECT last_value >= (SELECT max(id) FROM docs WHERE id < 100000) FROM docs_id_seq") == "t");
    CHECK(world.as_app(world.moves().source_server(), "crm", 1, "INSERT INTO docs (title) VALUES ('again')") == "");
    world.moves().run(request_of(MoveKind::promote, "own-1", "red_two"), MoveState::reversing);
}

TEST_CASE("a demote that is cancelled leaves no row in the shared tables") {
    RowsWorld world;
    world.make_keys_safe();
    complete(world, world.run(MoveState::reversing).id);
    const auto others = world.source_rows("2, 3");
    auto request = home;
    request.cutover = false;
    const auto started = world.moves().mover().start(request);
    REQUIRE_MESSAGE(started.has_value(), (started ? std::string() : started.error().message));
    world.moves().wait_for(started->id, {MoveState::verify});
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 1") == "1000");
    REQUIRE(world.moves().mover().cancel(started->id).has_value());
    world.moves().wait_for(started->id, {MoveState::aborted});
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 1") == "0");
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.where_red_lives() == "own-1/red_own");
    CHECK(world.artefacts() == "target  catalog entry");
    CHECK(world.as_app(world.moves().target_server(), "red_own", 1, "UPDATE docs SET n = 1") == "");
}

TEST_CASE("what doesn't fit into the shared tables is named before anything is moved") {
    RowsWorld world;
    world.make_keys_safe();
    complete(world, world.run(MoveState::reversing).id);
    CHECK(blockers(world, home) == "");
    const auto greens = world.on_crm("SELECT min(id) FROM docs WHERE tenant_id = 2");
    SUBCASE("keys that others have") {
        world.on_own("INSERT INTO docs (id, tenant_id, title) VALUES (" + greens + ", 1, 'mine')");
        CHECK(blockers(world, home).find("key_collision docs_pkey on public.docs: 1 rows") == 0);
        const auto started = world.moves().mover().start(home);
        REQUIRE(started.has_value());
        CHECK(world.moves().wait_for(started->id, {MoveState::aborted}).error.find("key_collision") != std::string::npos);
        CHECK(world.on_crm("SELECT tenant_id FROM docs WHERE id = " + greens) == "2");
    }
    SUBCASE("rows of its key") {
        world.on_crm("ALTER TABLE ledger DISABLE TRIGGER ALL; INSERT INTO ledger VALUES (1, 1, 1, 1)");
        CHECK(blockers(world, home) == "key_taken public.ledger: 1 rows of the shared table have the tenant's key \"1\" already\n");
    }
    SUBCASE("global rows") {
        world.on_own("INSERT INTO countries VALUES ('mine', 'of its own'); UPDATE docs SET country = 'mine' WHERE id % 100 = 0");
        CHECK(blockers(world, home).find("global_row_missing docs_country_fkey on public.docs: 1 rows") == 0);
        world.on_crm("INSERT INTO countries VALUES ('mine', 'everybodys')");
        CHECK(blockers(world, home) == "");
    }
    SUBCASE("definitions") {
        world.on_own("CREATE TABLE extra (tenant_id int, id int, PRIMARY KEY (tenant_id, id)); ALTER TABLE docs ADD COLUMN more text; "
                     "ALTER TABLE ledger ALTER COLUMN amount TYPE bigint");
        world.on_crm("ALTER TABLE slugs ADD COLUMN must text NOT NULL DEFAULT 'x'; ALTER TABLE slugs ALTER COLUMN must DROP DEFAULT");
        const auto found = blockers(world, home);
        CHECK(found.find("table_missing public.extra") != std::string::npos);
        CHECK(found.find("no column more") != std::string::npos);
        CHECK(found.find("amount is integer, not bigint") != std::string::npos);
        CHECK(found.find("must needs a value") != std::string::npos);
    }
    SUBCASE("rows that aren't its own") {
        world.on_own("INSERT INTO billing.accounts VALUES (3, 90000, 1, 'slipped in')");
        CHECK(blockers(world, home).find("not_the_tenants billing.accounts: 1 rows") == 0);
    }
    SUBCASE("a database that isn't shared") {
        CHECK(blockers(world, request_of(MoveKind::demote, "shared-1", "nowhere")).find("target_missing") != std::string::npos);
        CHECK(blockers(world, request_of(MoveKind::demote, "shared-1", "shared")).find("no_tenant_column") != std::string::npos);
    }
    CHECK(world.where_red_lives() == "own-1/red_own");
}

TEST_CASE("a database that was made of rows is relocated, with a way back") {
    RowsWorld world(true);
    world.make_keys_safe();
    RowsTraffic traffic(world);
    traffic.leave_global_tables_alone();
    traffic.stay_away_from_the_source();
    traffic.start();
    complete(world, world.run(MoveState::reversing).id);
    const auto elsewhere = request_of(MoveKind::relocate, "shared-1", "red_two");
    auto moved = world.moves().run(elsewhere, MoveState::reversing);
    CHECK(moved.rollback_refused == "");
    CHECK(world.where_red_lives() == "shared-1/red_two");
    traffic.wait_for_more(100);
    roll_back(world, moved.id);
    CHECK(world.where_red_lives() == "own-1/red_own");
    traffic.wait_for_more(50);
    moved = world.moves().run(elsewhere, MoveState::reversing);
    traffic.wait_for_more(50);
    traffic.stop();
    CHECK(traffic.failures() == "");
    CHECK(traffic.judge() == "");
    complete(world, moved.id);
    CHECK(world.as_app(world.moves().source_server(), "red_two", 1, "SHOW app.flavour") == "it's \"sweet\"");
    const auto* entry = world.moves().publisher().current()->find_database("shared-1", "red_two");
    REQUIRE(entry != nullptr);
    CHECK(entry->tenant_column == "tenant_id");
    // And from there home.
    complete(world, world.moves().run(home, MoveState::reversing).id);
    CHECK(traffic.judge() == "");
}
