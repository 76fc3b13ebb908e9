// A copy in pieces: each has a snapshot of its own, and what the application does between two of them is neither lost nor done twice; what
// was copied stays copied when servers, connections or the instance end.
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/writers.hpp"
#include "tests/support/becomes_true.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

// `big` goes by ranges of its key, `wide`, whose keys lie anywhere, in parts of one piece, and `late` is the table that a test locks, large
// enough to be a piece of its own, which then comes when everything else has been copied.
constexpr const char* large_tables = R"sql(
CREATE TABLE acme.big (id bigint PRIMARY KEY, code int NOT NULL UNIQUE, doc text);
ALTER TABLE acme.big ALTER doc SET STORAGE EXTERNAL;
INSERT INTO acme.big SELECT i, i, repeat('x', 90) FROM generate_series(1, 30000) AS i;
CREATE TABLE acme.wide (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int NOT NULL, filler text DEFAULT repeat('y', 300));
INSERT INTO acme.wide (n) SELECT i FROM generate_series(1, 12000) AS i;
CREATE TABLE acme.emptied (id int PRIMARY KEY, v int);
INSERT INTO acme.emptied SELECT i, i FROM generate_series(1, 100) AS i;
CREATE TABLE acme.late (id int PRIMARY KEY, filler text);
CREATE TABLE acme.refs (id int PRIMARY KEY, big_id bigint REFERENCES acme.big DEFERRABLE INITIALLY DEFERRED);
INSERT INTO acme.late SELECT i, repeat('z', 300) FROM generate_series(1, 1000) AS i;
ANALYZE acme.big, acme.wide
)sql";

class PiecesWorld : public MoveWorld {
  public:
    explicit PiecesWorld(bool two_servers = false) : MoveWorld(two_servers) {
        config().mover.copy_piece_mib = 1;
        config().mover.restarts_max = 3;
        on_source(large_tables);
    }

    // Starts the move and returns when all pieces but that of `late` are there; its copy waits for release().
    MoveId start_and_wait_for_pieces() {
        subscription_ = mover().subscribe([this](const MoveEvent& event) {
            if (event.type != "state" || event.record.state != MoveState::copy || blocker_) return;
            auto connection = PgConnection::connect_dsn(source_server().dsn("shared"), Secret{}, "test");
            REQUIRE(connection.has_value());
            blocker_ = std::make_unique<PgConnection>(*std::move(connection));
            REQUIRE(blocker_->exec("BEGIN; LOCK TABLE acme.late IN ACCESS EXCLUSIVE MODE").has_value());
        });
        auto wanted = request();
        wanted.copy_jobs = 4;
        const auto started = mover().start(wanted);
        REQUIRE(started.has_value());
        move_ = started->id;
        REQUIRE(becomes_true([&] { return missing_pieces() == "1"; }, std::chrono::seconds(60)));
        mover().unsubscribe(subscription_);
        return move_;
    }
    void release() { blocker_.reset(); }

    std::string pieces(const std::string& what) { return on_target("SELECT " + what + " FROM pgporter_move_" + std::to_string(move_.value) + ".pieces"); }
    std::string missing_pieces() {
        if (!target_exists()) return "";
        const auto exists = on_target("SELECT to_regclass('pgporter_move_" + std::to_string(move_.value) + ".pieces') IS NOT NULL");
        return exists == "t" ? pieces("count(*) FILTER (WHERE snapshot IS NULL)") : std::string();
    }
    // Of the move's last words on its pieces, which go when it is done.
    void remember_attempts() {
        attempts_subscription_ = mover().subscribe([this](const MoveEvent& event) {
            if (event.type == "state" && event.record.state == MoveState::index)
                attempts_ = pieces("count(*) FILTER (WHERE attempt = 1) > 5, max(attempt) > 1, count(*) FILTER (WHERE snapshot IS NULL)");
        });
    }
    [[nodiscard]] const std::string& attempts() const { return attempts_; }
    void check_arrived(const std::string& before) {
        CHECK(fingerprint(target_server(), "acme_own") == before);
        CHECK(where_tenant_lives() == "own-1/acme_own");
    }

  private:
    MoveId move_;
    std::unique_ptr<PgConnection> blocker_;
    std::uint64_t subscription_ = 0;
    std::uint64_t attempts_subscription_ = 0;
    std::string attempts_;
};

// Whatever an application may do to rows that were copied: to those that the last piece's snapshot sees and those that it doesn't.
void change_everything(PiecesWorld& world) {
    world.on_source("INSERT INTO acme.big SELECT i, i, 'new' FROM generate_series(-50, -1) AS i");
    world.on_source("INSERT INTO acme.big SELECT i, i, 'new' FROM generate_series(40001, 40050) AS i");
    world.on_source("INSERT INTO acme.refs VALUES (1, 40001)");
    world.on_source("UPDATE acme.big SET doc = 'changed' WHERE id % 97 = 0");
    world.on_source("DELETE FROM acme.big WHERE id % 101 = 0");
    // Keys that go from one piece to another, and back; values of the other unique index that change places.
    world.on_source("UPDATE acme.big SET id = id + 100000 WHERE id BETWEEN 10 AND 20");
    world.on_source("UPDATE acme.big SET id = id - 100000 WHERE id BETWEEN 100010 AND 100012");
    world.on_source("UPDATE acme.big SET code = -1000 WHERE id = 200");
    world.on_source("UPDATE acme.big SET code = 200 WHERE id = 25000");
    world.on_source("UPDATE acme.big SET code = 25000 WHERE id = 200");
    world.on_source("UPDATE acme.wide SET n = n + 1 WHERE n % 7 = 0");
    world.on_source("DELETE FROM acme.wide WHERE n % 11 = 0");
    world.on_source("INSERT INTO acme.wide (n) SELECT i FROM generate_series(20001, 20500) AS i");
    world.on_source("TRUNCATE acme.emptied");
    world.on_source("INSERT INTO acme.emptied VALUES (5, 5), (6, 6)");
    world.on_source("BEGIN; UPDATE acme.big SET doc = 'in a subtransaction' WHERE id = 300; SAVEPOINT a; UPDATE acme.big SET doc = 'x' WHERE id = 301; "
                    "ROLLBACK TO a; SAVEPOINT b; UPDATE acme.big SET doc = 'kept' WHERE id = 302; COMMIT");
}

// The one that is begun anew in its stead.
void wait_for_next(MoveWorld& world, MoveId move) {
    const MoveId next{move.value + 1};
    REQUIRE(becomes_true([&] { return world.mover().find(next).has_value(); }));
    CHECK(world.wait_for(next, {MoveState::reversing, MoveState::aborted}).error == "");
}

}  // namespace

TEST_CASE("what is written between two pieces is neither lost nor applied twice") {
    PiecesWorld world;
    world.start_and_wait_for_pieces();
    CHECK(world.pieces("count(*) FILTER (WHERE above IS NOT NULL OR up_to IS NOT NULL) > 4, count(*) FILTER (WHERE in_parts)") == "t|1");
    change_everything(world);
    // In whose eyes the last piece is: this is before it, in one of the others it isn't.
    world.release();
    world.on_source("INSERT INTO acme.late VALUES (5000, '')");
    const auto record = world.wait_for(MoveId{1}, {MoveState::reversing, MoveState::aborted});
    CHECK(record.error == "");
    CHECK(record.progress.rows_copied > 40'000);
    world.check_arrived(world.fingerprint(world.source_server(), "shared"));
}

TEST_CASE("a table whose rows are few and large is copied by ranges of its key, too") {
    PiecesWorld world;
    world.on_source("CREATE TABLE acme.documents (id int PRIMARY KEY, body text); ALTER TABLE acme.documents ALTER body SET STORAGE EXTERNAL; "
                    "INSERT INTO acme.documents SELECT i, repeat(md5(i::text), 625) FROM generate_series(1, 400) AS i; ANALYZE acme.documents");
    REQUIRE(world.on_source("SELECT pg_relation_size('acme.documents') < 131072, pg_table_size('acme.documents') > 8000000") == "t|t");
    world.start_and_wait_for_pieces();
    const auto oid = world.on_source("SELECT 'acme.documents'::regclass::oid");
    CHECK(world.pieces("count(*) FILTER (WHERE tables::text = '{" + oid + "}' AND NOT (above IS NULL AND up_to IS NULL)) > 4") == "t");
    world.release();
    const auto record = world.wait_for(MoveId{1}, {MoveState::reversing, MoveState::aborted});
    CHECK(record.error == "");
    world.check_arrived(world.fingerprint(world.source_server(), "shared"));
}

TEST_CASE("busy writers, pieces of all kinds, nothing lost") {
    PiecesWorld world(true);
    Writers writers(world, 3);
    writers.start();
    std::atomic<bool> ended{false};
    std::thread changer([&] {
        for (int i = 0; !ended.load(); ++i) {
            const auto at = std::to_string(i % 29'000 + 1);
            world.on_source("UPDATE acme.big SET doc = doc || 'z' WHERE id = " + at);
            world.on_source("UPDATE acme.big SET id = -id WHERE abs(id) = " + std::to_string((i * 7) % 29'000 + 1));
            world.on_source("DELETE FROM acme.wide WHERE n = " + std::to_string(i + 1));
            if (i % 50 == 0) world.on_source("TRUNCATE acme.emptied; INSERT INTO acme.emptied VALUES (" + std::to_string(i) + ", 1)");
        }
    });
    world.config().mover.copy_mib_per_s_max = 6;
    const auto started = world.mover().start(world.request());
    REQUIRE(started.has_value());
    const auto verifying = world.wait_for(started->id, {MoveState::verify, MoveState::aborted});
    ended.store(true);
    changer.join();
    CHECK(verifying.error == "");
    const auto record = world.wait_for(started->id, {MoveState::reversing, MoveState::aborted});
    CHECK(record.error == "");
    CHECK(record.progress.changes_applied > 0);
    writers.wait_for_more(20);
    writers.stop();
    CHECK(writers.failures() == "");
    CHECK(writers.judge() == "");
}

TEST_CASE("who takes a copy up goes on with the pieces that are missing, as the same move") {
    PiecesWorld world;
    const auto move = world.start_and_wait_for_pieces();
    change_everything(world);
    world.restart_mover();
    world.remember_attempts();
    world.release();
    world.mover().recover();
    const auto record = world.wait_for(move, {MoveState::reversing, MoveState::aborted});
    CHECK(record.error == "");
    CHECK(world.attempts() == "t|t|0");
    CHECK(record.progress.rows_copied > 40'000);
    world.check_arrived(world.fingerprint(world.source_server(), "shared"));
    CHECK(world.mover().list()->size() == 1);
}

TEST_CASE("a server or a connection that ends during a copy ends no move") {
    PiecesWorld world(true);
    const auto move = world.start_and_wait_for_pieces();
    world.remember_attempts();
    change_everything(world);
    SUBCASE("the connections to the source") {
        world.on_source("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'pgporter mover%'");
        world.release();
    }
    SUBCASE("the target crashes") {
        world.target_server().stop(PostgresServer::Stop::immediate);
        world.target_server().restart();
        world.release();
    }
    SUBCASE("the source crashes") {
        world.source_server().stop(PostgresServer::Stop::immediate);
        world.source_server().restart();
        world.release();
    }
    const auto record = world.wait_for(move, {MoveState::reversing, MoveState::aborted});
    CHECK(record.error == "");
    CHECK(world.attempts() == "t|t|0");
    CHECK(world.where_tenant_lives() == "own-1/acme_own");
    CHECK(world.on_target("SELECT count(*), sum(id), count(DISTINCT code) FROM acme.big") ==
          world.on_source("SELECT count(*), sum(id), count(DISTINCT code) FROM acme.big"));
}

TEST_CASE("a copy whose definitions have changed isn't gone on with: the move begins anew") {
    PiecesWorld world;
    const auto move = world.start_and_wait_for_pieces();
    world.restart_mover();
    world.release();
    world.on_source("ALTER TABLE acme.wide ADD extra int DEFAULT 3");
    world.mover().recover();
    CHECK(world.wait_for(move, {MoveState::aborted, MoveState::reversing}).state == MoveState::aborted);
    wait_for_next(world, move);
    world.check_arrived(world.fingerprint(world.source_server(), "shared"));
}

TEST_CASE("a copy whose log is gone isn't gone on with, and one that never gets on isn't begun for ever") {
    PiecesWorld world;
    const auto move = world.start_and_wait_for_pieces();
    SUBCASE("the slot is gone") {
        world.restart_mover();
        world.release();
        REQUIRE(becomes_true([&] { return world.on_source("SELECT count(*) FROM pg_replication_slots WHERE active") == "0"; }));
        world.on_source("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
        world.mover().recover();
        CHECK(world.wait_for(move, {MoveState::aborted, MoveState::reversing}).state == MoveState::aborted);
        wait_for_next(world, move);
    }
    SUBCASE("no piece is ever finished") {
        world.config().mover.restarts_max = 2;
        world.on_target("UPDATE pgporter_move_" + std::to_string(move.value) + ".copying SET fruitless = 2, attempt = 9");
        world.restart_mover();
        world.release();
        world.mover().recover();
        const auto record = world.wait_for(move, {MoveState::aborted, MoveState::reversing});
        CHECK(record.error.find("mover.restarts_max") != std::string::npos);
    }
    CHECK(world.mover().find(move)->state == MoveState::aborted);
}
