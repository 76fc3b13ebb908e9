// Moves that begin in a database of the tenant's own: to another one, and back into a shared one.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/writers.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

MoveRequest request_of(MoveKind kind, const std::string& cluster, const std::string& database) {
    MoveRequest request;
    request.kind = kind;
    request.tenant = "acme";
    request.cluster = cluster;
    request.database = database;
    return request;
}

void complete(MoveWorld& world, MoveId move) {
    REQUIRE(world.mover().complete(move).has_value());
    world.wait_for(move, {MoveState::completed});
}

void roll_back(MoveWorld& world, MoveId move) {
    REQUIRE(world.mover().rollback(move).has_value());
    world.wait_for(move, {MoveState::rolled_back});
}

bool has_blocker(MoveWorld& world, const MoveRequest& request, const std::string& code) {
    const auto report = world.mover().preflight(request);
    REQUIRE_MESSAGE(report.has_value(), (report ? std::string() : report.error().message));
    return std::any_of(report->blockers.begin(), report->blockers.end(), [&](const MoveBlocker& b) { return b.code == code; });
}

std::string schemas_named_acme(PostgresServer& server, const std::string& database) {
    return MoveWorld::sql(server, database, "SELECT count(*) FROM pg_namespace WHERE nspname = 'acme' OR nspname LIKE 'pgporter%'");
}

}  // namespace

TEST_CASE("a tenant that writes all the time is promoted, relocated to another cluster, and demoted, with ways back") {
    MoveWorld world(true);
    world.config().mover.pause_verify_rows_max = 50'000;  // a table without a key grows for as long as this takes
    // Five moves long: the table without a key, which is read as a whole for each change, mustn't grow too large for a busy machine.
    Writers writers(world, 3, std::chrono::milliseconds(5));
    writers.start();
    complete(world, world.run(world.request(), MoveState::reversing).id);
    writers.wait_for_more(50);

    const auto elsewhere = request_of(MoveKind::relocate, "shared-1", "acme_two");
    auto moved = world.run(elsewhere, MoveState::reversing);
    writers.wait_for_more(50);
    CHECK(world.where_tenant_lives() == "shared-1/acme_two");
    roll_back(world, moved.id);
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
    CHECK(MoveWorld::sql(world.source_server(), "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'acme_two'") == "0");
    writers.wait_for_more(20);
    moved = world.run(elsewhere, MoveState::reversing);
    writers.wait_for_more(20);
    complete(world, moved.id);
    CHECK(schemas_named_acme(world.target_server(), "acme_own") == "0");

    const auto home = request_of(MoveKind::demote, "shared-1", "shared");
    moved = world.run(home, MoveState::reversing);
    writers.wait_for_more(50);
    CHECK(world.publisher().current()->find_tenant("acme")->placement.kind == PlacementKind::schema);
    CHECK(world.where_tenant_lives() == "shared-1/shared");
    roll_back(world, moved.id);
    CHECK(world.where_tenant_lives() == "shared-1/acme_two");
    CHECK(world.publisher().current()->find_tenant("acme")->placement.kind == PlacementKind::database);
    CHECK(schemas_named_acme(world.source_server(), "shared") == "0");
    writers.wait_for_more(20);
    moved = world.run(home, MoveState::reversing);
    writers.wait_for_more(20);
    complete(world, moved.id);
    writers.wait_for_more(20);
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    CHECK(world.artefacts() == "");
    CHECK(schemas_named_acme(world.source_server(), "acme_two") == "0");
    // And it may be promoted again.
    world.run(request_of(MoveKind::promote, "own-1", "acme_three"), MoveState::reversing);
}

TEST_CASE("what can't be demoted or relocated is refused") {
    MoveWorld world;
    const auto home = request_of(MoveKind::demote, "shared-1", "shared");
    // It isn't dedicated yet.
    CHECK(world.mover().start(request_of(MoveKind::relocate, "own-1", "acme_own")).error().kind == ErrorKind::conflict);
    complete(world, world.run(world.request(), MoveState::reversing).id);
    CHECK(world.mover().start(request_of(MoveKind::promote, "own-1", "acme_two")).error().kind == ErrorKind::conflict);
    CHECK(has_blocker(world, request_of(MoveKind::demote, "shared-1", "nowhere"), "target_missing"));
    CHECK_FALSE(has_blocker(world, home, "target_not_empty"));
    CHECK_FALSE(has_blocker(world, home, "schema_taken"));

    // Somebody else's schema has the name: it is refused, and never touched.
    world.on_source("CREATE SCHEMA acme; CREATE TABLE acme.somebodys (id int)");
    CHECK(has_blocker(world, home, "schema_taken"));
    const auto started = world.mover().start(home);
    REQUIRE(started.has_value());
    CHECK(world.wait_for(started->id, {MoveState::aborted}).error.find("schema_taken") != std::string::npos);
    CHECK(world.on_source("SELECT count(*) FROM acme.somebodys") == "0");
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
}

TEST_CASE("a schema that somebody makes in the middle of a demote isn't dropped when it is undone") {
    MoveWorld world;
    complete(world, world.run(world.request(), MoveState::reversing).id);
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        // On the move's own thread: preflight is over, nothing was made yet.
        if (event.type == "state" && event.record.state == MoveState::schema)
            world.on_source("CREATE SCHEMA acme; CREATE TABLE acme.somebodys (id int)");
    });
    const auto started = world.mover().start(request_of(MoveKind::demote, "shared-1", "shared"));
    REQUIRE(started.has_value());
    const auto ended = world.wait_for(started->id, {MoveState::aborted});
    world.mover().unsubscribe(subscription);
    CHECK(ended.error.find("somebody else made the target schema") != std::string::npos);
    CHECK(world.on_source("SELECT count(*) FROM acme.somebodys") == "0");
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
}
