// A tenant that is rows of shared tables gets a database of its own, and its neighbours notice nothing.
#include <doctest/doctest.h>

#include "tests/integration/mover/rows_world.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

std::string codes(const std::vector<MoveBlocker>& findings) {
    std::string text;
    for (const auto& finding : findings) text += finding.code + " " + finding.object + "\n";
    return text;
}

}  // namespace

TEST_CASE("a quiet tenant's rows move, and only these") {
    RowsWorld world;
    const auto red = world.source_rows("1");
    const auto others = world.source_rows("2, 3");
    const auto report = world.moves().mover().preflight(world.request());
    REQUIRE_MESSAGE(report.has_value(), (report ? std::string() : report.error().message));
    CHECK(codes(report->blockers) == "");
    MESSAGE("estimated rows: " << report->rows_estimate << ", warnings:\n" << codes(report->warnings));
    const auto record = world.run(MoveState::opened);
    MESSAGE("pause ms: " << record.progress.pause_ms);
    CHECK(world.target_rows() == red);
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.where_red_lives() == "own-1/red_own");
    CHECK(world.on_own("SELECT count(*) FROM countries") == "50");
    CHECK(world.on_own("SELECT last_value FROM docs_id_seq") == world.on_crm("SELECT last_value FROM docs_id_seq"));
    // The application sees what it saw, by the same setting; another key shows nothing.
    const auto on_source = world.as_app(world.moves().source_server(), "crm", 1, "SELECT count(*) FROM docs");
    CHECK(world.as_app(world.moves().target_server(), "red_own", 1, "SELECT count(*) FROM docs") == on_source);
    CHECK(world.as_app(world.moves().target_server(), "red_own", 2, "SELECT count(*) FROM docs") == "0");
    CHECK(world.as_app(world.moves().target_server(), "red_own", 1, "INSERT INTO docs (title) VALUES ('own') RETURNING tenant_id") == "1");
    CHECK(world.as_app(world.moves().target_server(), "red_own", 1, "SHOW search_path") == "\"$user\", public, billing");
    CHECK(world.as_app(world.moves().target_server(), "red_own", 1, "SHOW app.flavour") == "it's \"sweet\"");
    const auto snapshot = world.moves().publisher().current();
    const auto* entry = snapshot->find_database("own-1", "red_own");
    REQUIRE(entry != nullptr);
    CHECK(entry->tenant_setting == "app.tenant");
    // The fence: red's rows take no writes here, in none of the ways; the neighbours' do.
    auto& source = world.moves().source_server();
    for (const auto* refused : {"INSERT INTO docs (title) VALUES ('late')", "UPDATE docs SET n = 1 WHERE id = (SELECT min(id) FROM docs)",
                                "DELETE FROM slugs", "INSERT INTO slugs (slug) VALUES ('late')",
                                "INSERT INTO events (tenant_id, day) VALUES (1, '2025-05-05')",
                                "UPDATE countries SET visits = 1; UPDATE notes SET what = 'late'"}) {
        CAPTURE(refused);
        CHECK(world.as_app(source, "crm", 1, refused).substr(0, 5) == "PP001");
        std::string allowed = refused;
        if (const auto at = allowed.find("(1, "); at != std::string::npos) allowed[at + 1] = '2';
        CHECK(world.as_app(source, "crm", 2, "BEGIN; " + allowed + "; ROLLBACK") == "");
    }
    for (const auto* refused : {"UPDATE docs SET tenant_id = 2 WHERE tenant_id = 1", "UPDATE docs SET tenant_id = 1 WHERE tenant_id = 3",
                                "TRUNCATE notes", "SET session_replication_role = replica; DELETE FROM ledger; DELETE FROM docs WHERE tenant_id = 1"}) {
        CAPTURE(refused);
        auto connection = PgConnection::connect_dsn(source.dsn("crm"), Secret{}, "test");
        const auto done = connection->exec(refused);
        REQUIRE_FALSE(done.has_value());
        CHECK(done.error().sqlstate == "PP001");
    }
    // A partition that is made now has the fence too.
    world.on_crm("CREATE TABLE events_c PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')");
    CHECK(world.as_app(source, "crm", 1, "INSERT INTO events (tenant_id, day) VALUES (1, '2026-05-05')").substr(0, 5) == "PP001");
    // complete: red's rows go, nobody else's, and the fence.
    REQUIRE(world.moves().mover().complete(record.id).has_value());
    world.moves().wait_for(record.id, {MoveState::completed});
    CHECK(world.source_rows("1") == "docs 0|0\nparts 0|0\nbilling.accounts 0|0\nnotes 0|0\nslugs 0|0\nledger 0|0\nevents 0|0\n");
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.artefacts() == "target  catalog entry");
}

TEST_CASE("a tenant among busy neighbours, with rows that change hands, loses nothing") {
    for (const bool two_servers : {true, false}) {
        CAPTURE(two_servers);
        RowsWorld world(two_servers);
        RowsTraffic traffic(world);
        if (two_servers) traffic.stop_red_at_flip();  // both sides stay comparable
        traffic.start();
        const auto record = world.run(MoveState::opened);
        traffic.wait_for_more(200);
        CHECK(traffic.bypass_was_refused());
        traffic.stop();
        MESSAGE("pause ms: " << record.progress.pause_ms << ", changes applied: " << record.progress.changes_applied
                             << ", attempts: " << record.progress.cutover_attempts << ", slowest neighbour ms: " << traffic.slowest_neighbour_ms());
        CHECK(record.progress.cutover_attempts < 2);  // the machine may be slow
        CHECK(traffic.failures() == "");
        CHECK(traffic.judge() == "");
        CHECK(world.on_own("SELECT count(*) FROM docs WHERE tenant_id <> 1") == "0");
        if (two_servers) CHECK(world.target_rows() == world.source_rows("1"));
        CHECK(traffic.slowest_neighbour_ms() < 3'000);
        const auto others = world.source_rows("2, 3");
        REQUIRE(world.moves().mover().complete(record.id).has_value());
        world.moves().wait_for(record.id, {MoveState::completed});
        CHECK(world.source_rows("2, 3") == others);
        CHECK(world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 1") == "0");
        CHECK(world.artefacts() == "target  catalog entry");
    }
}

TEST_CASE("a cancelled move leaves no trace, and the tenant works on") {
    RowsWorld world;
    RowsTraffic traffic(world);
    traffic.start();
    auto request = world.request();
    request.cutover = false;
    const auto started = world.moves().mover().start(request);
    REQUIRE_MESSAGE(started.has_value(), (started ? std::string() : started.error().message));
    world.moves().wait_for(started->id, {MoveState::verify});
    CHECK(world.artefacts() != "");
    REQUIRE(world.moves().mover().cancel(started->id).has_value());
    world.moves().wait_for(started->id, {MoveState::aborted});
    traffic.wait_for_more(100);
    traffic.stop();
    CHECK(world.artefacts() == "");
    CHECK(traffic.failures() == "");
    CHECK(traffic.judge() == "");
    CHECK_FALSE(world.target_exists());
}

TEST_CASE("tenants of the same tables move one after the other, and both fences hold") {
    RowsWorld world;
    world.run(MoveState::opened);
    auto request = world.request();
    request.tenant = "green";
    request.database = "green_own";
    const auto green = world.source_rows("2");
    const auto record = world.moves().run(request, MoveState::opened);
    CHECK(record.error == "");
    auto& source = world.moves().source_server();
    CHECK(world.as_app(source, "crm", 1, "UPDATE docs SET n = 1").substr(0, 5) == "PP001");
    CHECK(world.as_app(source, "crm", 2, "UPDATE docs SET n = 1").substr(0, 5) == "PP001");
    CHECK(world.as_app(source, "crm", 3, "UPDATE docs SET n = 1") == "");
    CHECK(MoveWorld::sql(world.moves().target_server(), "green_own", "SELECT count(*) FROM docs WHERE tenant_id = 2") ==
          world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 2"));
    REQUIRE(world.moves().mover().complete(record.id).has_value());
    world.moves().wait_for(record.id, {MoveState::completed});
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 2") == "0");
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 1") == "1000");
    CHECK(world.as_app(source, "crm", 1, "UPDATE docs SET n = 1").substr(0, 5) == "PP001");
}

TEST_CASE("old snapshots and prepared transactions don't slip through the fence of rows") {
    RowsWorld world;
    auto& source = world.moves().source_server();
    auto request = world.request();
    request.cutover = false;
    const auto started = world.moves().mover().start(request);
    REQUIRE_MESSAGE(started.has_value(), (started ? std::string() : started.error().message));
    world.moves().wait_for(started->id, {MoveState::verify});
    const auto open = [&](const char* isolation) {
        auto connection = PgConnection::connect_dsn(source.dsn("crm", "app"), Secret{}, "old");
        REQUIRE(connection.has_value());
        const auto begun = connection->exec(std::string("SET app.tenant = '1'; BEGIN ISOLATION LEVEL ") + isolation + "; SELECT count(*) FROM docs");
        REQUIRE(begun.has_value());
        return std::move(*connection);
    };
    auto repeatable = open("REPEATABLE READ");
    auto serializable = open("SERIALIZABLE");
    auto committed = open("READ COMMITTED");
    world.on_crm("BEGIN; UPDATE docs SET n = 77 WHERE id = (SELECT min(id) FROM docs WHERE tenant_id = 1); PREPARE TRANSACTION 'gone by'");
    REQUIRE(world.moves().mover().cutover(started->id).has_value());
    // The prepared transaction wrote a row of the tenant: no cutover before it ends.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (world.moves().mover().find(started->id)->progress.cutover_attempts < 1 && std::chrono::steady_clock::now() < deadline) {
        const auto note = world.moves().mover().find(started->id)->progress.note;
        if (note.find("long transaction") != std::string::npos) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    CHECK(world.where_red_lives() == "shared-1/crm");
    world.on_crm("COMMIT PREPARED 'gone by'");
    const auto later = deadline + std::chrono::seconds(30);
    while (world.moves().mover().find(started->id)->state != MoveState::opened && std::chrono::steady_clock::now() < later) {
        if (world.moves().mover().find(started->id)->state == MoveState::verify) static_cast<void>(world.moves().mover().cutover(started->id));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    world.moves().wait_for(started->id, {MoveState::opened});
    CHECK(world.on_own("SELECT count(*) FROM docs WHERE n = 77") == "1");
    for (auto* connection : {&repeatable, &serializable, &committed}) {
        const auto late = connection->exec("UPDATE docs SET n = 78 WHERE id = (SELECT max(id) FROM docs)");
        REQUIRE_FALSE(late.has_value());
        CHECK((late.error().sqlstate == "PP001" || late.error().sqlstate == "40001"));
    }
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE n = 78") == "0");
}

TEST_CASE("preflight says that the mover's role can't see whether connections are silent, which completing waits for") {
    RowsWorld world;
    world.on_crm("CREATE ROLE weak LOGIN");
    world.moves().config().mover.user = "weak";
    auto report = world.moves().mover().preflight(world.request());
    REQUIRE(report.has_value());
    CHECK(codes(report->warnings).find("no_stats_right weak") != std::string::npos);
    world.on_crm("GRANT pg_read_all_stats TO weak");
    report = world.moves().mover().preflight(world.request());
    REQUIRE(report.has_value());
    CHECK(codes(report->warnings).find("no_stats_right") == std::string::npos);
}

TEST_CASE("preflight names what keeps rows from being told apart") {
    RowsWorld world;
    world.on_crm(
        "CREATE TABLE lines (id int PRIMARY KEY, doc bigint REFERENCES docs);"
        "CREATE TABLE logs (tenant_id int, what text);"
        "CREATE TABLE odd (tenant_id numeric, id int PRIMARY KEY);"
        "CREATE TABLE everybodys (id int PRIMARY KEY, doc bigint REFERENCES docs); COMMENT ON TABLE everybodys IS 'pgporter: global'");
    auto report = world.moves().mover().preflight(world.request());
    REQUIRE(report.has_value());
    auto found = codes(report->blockers);
    for (const auto* code : {"table_without_tenant_column public.lines", "table_without_key public.logs", "tenant_column_type public.odd",
                             "global_refers_to_rows everybodys_doc_fkey on public.everybodys"}) {
        CHECK_MESSAGE(found.find(code) != std::string::npos, code << " in:\n" << found);
    }
    CHECK(codes(report->warnings).find("no_way_back slugs_by_slug on public.slugs") != std::string::npos);
    world.on_crm("DROP TABLE lines, logs, odd, everybodys; "
                 "UPDATE parts SET tenant_id = 2 WHERE id = (SELECT min(id) FROM parts WHERE tenant_id = 1)");
    report = world.moves().mover().preflight(world.request());
    REQUIRE(report.has_value());
    CHECK(codes(report->blockers) == "reference_between_tenants parts_doc_fkey on public.parts\n");
    world.on_crm("DELETE FROM parts; CREATE ROLE bound LOGIN REPLICATION CREATEDB; GRANT CREATE ON DATABASE crm TO bound; "
                 "GRANT SELECT ON ALL TABLES IN SCHEMA public, billing TO bound; GRANT USAGE ON SCHEMA billing TO bound; "
                 "GRANT SET ON PARAMETER session_replication_role TO bound");
    world.moves().config().mover.user = "bound";
    report = world.moves().mover().preflight(world.request());
    REQUIRE(report.has_value());
    found = codes(report->blockers);
    CHECK(found.find("row_security_forced public.docs") != std::string::npos);
    CHECK(found.find("no_bypass_right") != std::string::npos);
}

TEST_CASE("a shared table that loses its key is unpublished at once, and the move is cancelled") {
    RowsWorld world;
    auto request = world.request();
    request.cutover = false;
    const auto started = world.moves().mover().start(request);
    REQUIRE(started.has_value());
    world.moves().wait_for(started->id, {MoveState::verify});
    world.on_crm("ALTER TABLE parts DROP CONSTRAINT parts_pkey");
    const auto record = world.moves().wait_for(started->id, {MoveState::aborted});
    CHECK(record.error.find("parts") != std::string::npos);
    world.on_crm("UPDATE parts SET label = 'works'");
    CHECK(world.artefacts() == "");
}

TEST_CASE("rows are deleted once: complete ends when the target is back, and the fence goes last") {
    RowsWorld world(true);
    const auto others = world.source_rows("2, 3");
    const auto record = world.run(MoveState::opened);
    world.moves().target_server().stop(PostgresServer::Stop::immediate);
    REQUIRE(world.moves().mover().complete(record.id).has_value());
    // The rows are gone by now; what is left needs the target.
    for (int tries = 0; world.moves().mover().find(record.id)->progress.note.find("completing") == std::string::npos && tries < 1'000; ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    CHECK(world.moves().mover().find(record.id)->progress.note.find("completing") == 0);
    world.moves().target_server().restart();
    world.moves().wait_for(record.id, {MoveState::completed});
    CHECK(world.on_crm("SELECT count(*) FROM docs WHERE tenant_id = 1") == "0");
    CHECK(world.source_rows("2, 3") == others);
    CHECK(world.artefacts() == "target  catalog entry");
}

TEST_CASE("a target that breaks the connection again and again makes nobody lose a row") {
    RowsWorld world(true);
    RowsTraffic traffic(world);
    traffic.start();
    auto request = world.request();
    request.cutover = false;
    const auto started = world.moves().mover().start(request);
    REQUIRE(started.has_value());
    world.moves().wait_for(started->id, {MoveState::verify});
    for (int round = 0; round < 5; ++round) {
        traffic.wait_for_more(20);
        MoveWorld::sql(world.moves().target_server(), "postgres",
                       "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'pgporter_mover' AND datname = 'red_own'");
    }
    static_cast<void>(world.moves().mover().cutover(started->id));
    // Rows that came from other tenants in the moment of a break can't be told: then the comparison refuses, and red stays.
    const auto record = world.moves().wait_for(started->id, {MoveState::opened, MoveState::aborted});
    traffic.wait_for_more(100);
    traffic.stop();
    MESSAGE("ended as " << to_text(record.state) << " " << record.error);
    CHECK((record.state == MoveState::opened || record.error.find("source and target differ") != std::string::npos));
    CHECK(traffic.failures() == "");
    CHECK(traffic.judge() == "");
    if (record.state == MoveState::aborted) CHECK(world.artefacts() == "");
}
