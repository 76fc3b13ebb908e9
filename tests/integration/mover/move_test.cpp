// A whole move: what arrives, what stays, what is left behind.
#include <doctest/doctest.h>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/writers.hpp"

using namespace pgporter;
using namespace pgporter::test;

TEST_CASE("a quiet tenant moves whole, on the same server") {
    MoveWorld world;
    const auto before = world.fingerprint(world.source_server(), "shared");
    const auto record = world.run(world.request(), MoveState::reversing);
    CHECK(record.progress.pause_ms > 0);
    MESSAGE("pause ms: " << record.progress.pause_ms);
    CHECK(record.error == "");
    CHECK(world.fingerprint(world.target_server(), "acme_own") == before);
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
    CHECK(world.artefacts().find("slot pgporter_move") == std::string::npos);
    CHECK(world.artefacts().find("publication pgporter_move") == std::string::npos);
}

TEST_CASE("a tenant that writes all the time loses nothing, on another server") {
    MoveWorld world(true);
    Writers writers(world, 3);
    writers.start();
    const auto record = world.run(world.request(), MoveState::reversing);
    MESSAGE("pause ms: " << record.progress.pause_ms << ", changes applied: " << record.progress.changes_applied);
    writers.wait_for_more(50);  // on the target now
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
    CHECK(writers.acknowledged() > 100);
    CHECK(record.progress.changes_applied > 0);
}
