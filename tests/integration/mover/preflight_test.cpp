// Preflight names everything that would make a move fail, and changes nothing.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/integration/mover/move_world.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

bool names(const std::vector<MoveBlocker>& list, const std::string& code, const std::string& object) {
    return std::any_of(list.begin(), list.end(), [&](const MoveBlocker& item) {
        return item.code == code && item.object.find(object) != std::string::npos && !item.message.empty() &&
               !item.remedy.empty();
    });
}

std::string text_of(const std::vector<MoveBlocker>& list) {
    std::string text;
    for (const auto& item : list) text += item.code + " " + item.object + "\n";
    return text;
}

}  // namespace

TEST_CASE("a tenant that can move has no blockers, an estimate, and what it should know") {
    MoveWorld world;
    const auto report = world.mover().preflight(world.request());
    REQUIRE(report.has_value());
    CHECK(text_of(report->blockers) == "");
    CHECK(report->tables == 10);
    CHECK(report->bytes > 100'000);
    CHECK(report->seconds_estimate > 0);
    CHECK(names(report->warnings, "materialized_view", "acme.totals"));
    CHECK(names(report->warnings, "full_identity", "acme.audit"));
    CHECK(names(report->warnings, "own_type", "mood"));
    CHECK_FALSE(names(report->warnings, "own_type", "email"));  // a domain is told as what it is made of
    CHECK(world.artefacts() == "");
    CHECK_FALSE(world.target_exists());
}

TEST_CASE("every blocker is named, all at once") {
    MoveWorld world;
    world.on_source(R"sql(
        CREATE TABLE acme.bare (a int);
        CREATE UNLOGGED TABLE acme.quick (a int PRIMARY KEY);
        CREATE TABLE public.global (id int PRIMARY KEY);
        CREATE TABLE acme.points_out (id int PRIMARY KEY REFERENCES public.global);
        CREATE TABLE public.points_in (id int PRIMARY KEY, o int REFERENCES acme.orders);
        CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE TABLE acme.uses (id int PRIMARY KEY DEFAULT public.helper());
        CREATE TYPE public.outer_type AS ENUM ('x');
        CREATE TABLE acme.typed (id int PRIMARY KEY, t public.outer_type);
        CREATE VIEW public.over AS SELECT id FROM acme.orders;
        CREATE TABLE public.parent (id int PRIMARY KEY);
        CREATE TABLE acme.child (PRIMARY KEY (id)) INHERITS (public.parent);
        CREATE EXTENSION lo; CREATE TABLE acme.big (id int PRIMARY KEY, o lo, plain oid);
        CREATE EXTENSION hstore SCHEMA acme;
        ALTER TABLE acme.orders ENABLE ALWAYS TRIGGER touch;
        CREATE EXTENSION pg_trgm;
        CREATE PUBLICATION theirs FOR TABLE acme.odd;
        ALTER DATABASE shared SET work_mem = '8MB';
        CREATE ROLE somebody; ALTER TABLE acme.odd OWNER TO somebody)sql");
    world.on_source("BEGIN; INSERT INTO acme.ledger VALUES (1, 1, 1); PREPARE TRANSACTION 'stuck'");
    const auto report = world.mover().preflight(world.request());
    REQUIRE_MESSAGE(report.has_value(), report.error().message);
    INFO(text_of(report->blockers) << "--\n" << text_of(report->warnings));
    CHECK(names(report->blockers, "table_without_key", "acme.bare"));
    CHECK(names(report->blockers, "unlogged_table", "acme.quick"));
    CHECK(names(report->blockers, "foreign_key_outside", "acme.points_out"));
    CHECK(names(report->blockers, "foreign_key_outside", "points_in"));
    CHECK(names(report->blockers, "object_outside", "helper()"));
    CHECK(names(report->blockers, "object_outside", "outer_type"));
    CHECK(names(report->blockers, "used_from_outside", "over"));
    CHECK(names(report->blockers, "inherits_outside", "acme.child"));
    CHECK(names(report->blockers, "large_object", "acme.big.o"));
    CHECK(names(report->blockers, "extension_in_schema", "hstore"));
    CHECK(names(report->blockers, "trigger_always", "touch on acme.orders"));
    CHECK(names(report->blockers, "prepared_transaction", "stuck on acme.ledger"));
    CHECK(names(report->warnings, "oid_column", "acme.big.plain"));
    CHECK(names(report->warnings, "extension_unused", "pg_trgm"));
    CHECK(names(report->warnings, "published", "acme.odd in theirs"));
    CHECK(names(report->warnings, "database_settings", "work_mem=8MB"));
    CHECK_FALSE(names(report->blockers, "object_outside", "citext"));
    world.on_source("ROLLBACK PREPARED 'stuck'");
    world.on_source("DROP PUBLICATION theirs");
    // A move that is started all the same ends with the same words, and leaves nothing.
    const auto record = world.run(world.request(), MoveState::aborted);
    CHECK(record.error.find("table_without_key: acme.bare") != std::string::npos);
    CHECK(world.artefacts() == "");
    CHECK_FALSE(world.target_exists());
}

TEST_CASE("the target's faults: a missing role, a database that isn't empty, another encoding") {
    MoveWorld world(true);
    world.on_source("CREATE ROLE only_here; GRANT SELECT ON acme.odd TO only_here");
    MoveWorld::sql(world.target_server(), "postgres",
                   "CREATE DATABASE acme_own TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    world.on_target("CREATE TABLE something (id int)");
    auto report = world.mover().preflight(world.request());
    REQUIRE(report.has_value());
    CHECK(names(report->blockers, "role_missing", "only_here"));
    CHECK(names(report->blockers, "target_not_empty", "something"));
    CHECK(names(report->blockers, "target_differs", "encoding"));
    CHECK(names(report->blockers, "extension_missing", "citext"));
    // A database that was there before is never dropped for us.
    world.run(world.request(), MoveState::aborted);
    CHECK(world.on_target("SELECT count(*) FROM something") == "0");
}

TEST_CASE("an empty database that exists is used") {
    MoveWorld world(true);
    MoveWorld::sql(world.target_server(), "postgres", "CREATE DATABASE acme_own TEMPLATE template0");
    world.on_target("CREATE EXTENSION citext");
    world.run(world.request(), MoveState::reversing);
    CHECK(world.fingerprint(world.source_server(), "shared") == world.fingerprint(world.target_server(), "acme_own"));
}

TEST_CASE("rights are tried, not assumed") {
    MoveWorld world;
    world.on_source("CREATE ROLE weak LOGIN");
    world.config().mover.user = "weak";
    const auto report = world.mover().preflight(world.request());
    REQUIRE_MESSAGE(report.has_value(), report.error().message);
    INFO(text_of(report->blockers));
    CHECK(names(report->blockers, "no_replication_right", "weak"));
    CHECK(names(report->blockers, "no_create_right", "weak"));
    CHECK(names(report->blockers, "not_owner", "acme.orders"));
    CHECK(names(report->blockers, "no_replica_role_right", "weak"));
    CHECK(names(report->blockers, "no_createdb_right", "weak"));
}

TEST_CASE("requests that make no sense") {
    MoveWorld world;
    auto request = world.request();
    request.tenant = "nobody";
    CHECK(world.mover().preflight(request).error().kind == ErrorKind::not_found);
    CHECK(world.mover().start(request).error().kind == ErrorKind::not_found);
    request = world.request();
    request.cluster = "nowhere";
    CHECK(world.mover().start(request).error().kind == ErrorKind::not_found);
    request = world.request();
    request.cluster = "shared-1";
    request.database = "shared";
    CHECK(world.mover().preflight(request).error().kind == ErrorKind::invalid);
    // Under another name of the same server the database itself tells.
    request.cluster = "own-1";
    const auto report = world.mover().preflight(request);
    REQUIRE(report.has_value());
    CHECK(names(report->blockers, "target_is_source", "shared"));
    // One move of a tenant at a time.
    request = world.request();
    request.cutover = false;
    const auto first = world.mover().start(request);
    REQUIRE(first.has_value());
    CHECK(world.mover().start(request).error().kind == ErrorKind::conflict);
    REQUIRE(world.mover().cancel(first->id).has_value());
    world.wait_for(first->id, {MoveState::aborted});
    CHECK(world.mover().cancel(first->id).error().kind == ErrorKind::conflict);
    const auto refused = world.mover().cutover(first->id).error();
    INFO(refused.message << " " << refused.detail);
    CHECK(refused.kind == ErrorKind::conflict);
}
