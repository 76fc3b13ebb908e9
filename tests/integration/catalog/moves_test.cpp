#include <doctest/doctest.h>

#include <chrono>
#include <future>
#include <thread>

#include "catalog/step_outcome.hpp"
#include "catalog/store.hpp"
#include "tests/integration/catalog/catalog_fixture.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

constexpr std::uint32_t moves_max = 100;

class MoveFixture : public CatalogFixture {
  public:
    MoveFixture() : store(config) {
        must(store.apply(small_document(), false));
        acme = *Snapshot::build(must(store.load()))->find_tenant("acme");
    }
    MoveRecord create(const std::string& database = "acme_db") {
        MoveRequest request{
            .tenant = "acme", .cluster = "main", .database = database, .copy_jobs = 3, .cutover = false};
        return must(store.create_move(request, acme.placement, moved_to(acme, database), acme.epoch, moves_max));
    }
    // Walks the move as the mover does it, up to `last`.
    void walk_to(MoveId move, MoveState last) {
        using enum MoveState;
        const MoveState way[] = {planned, preflight, schema, gate, slot,   copy,
                                 index,   catchup,   verify, reverse_slot, hold, fenced, drained};
        for (std::size_t i = 0; way[i] != last; ++i) must(store.advance(move, way[i], way[i + 1], "step"));
    }

    static bool end_who_waits_for_standby(PgConnection& admin) {
        const auto waiting = admin.exec(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' "
            "AND datname = current_database()");
        return waiting && waiting->rows() > 0;
    }
    // Commits wait only once the checkpointer has read the setting, whatever SHOW says before: one is tried, and ended.
    bool commit_waits_for_standby(PgConnection& admin) {
        auto trial = std::async(std::launch::async, [this] {
            return sql().exec("SELECT pg_logical_emit_message(true, 'trial', '')").has_value();
        });
        bool waited = false;
        while (trial.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready)
            waited = end_who_waits_for_standby(admin) || waited;
        return waited;
    }

    CatalogStore store;
    Tenant acme;
};

}  // namespace

TEST_CASE_FIXTURE(MoveFixture, "a tenant has one move at a time") {
    const auto move = create();
    CHECK(move.state == MoveState::planned);
    CHECK(move.source == acme.placement);
    CHECK(move.target == moved_to(acme, "acme_db"));
    CHECK(move.request.copy_jobs == 3);
    CHECK_FALSE(move.request.cutover);
    CHECK(move.epoch == acme.epoch);
    CHECK(move.created_at.size() == std::string("2026-01-02T03:04:05.678Z").size());
    CHECK(move.finished_at.empty());

    const auto second = store.create_move(move.request, acme.placement, moved_to(acme, "other_db"), acme.epoch, moves_max);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().kind == ErrorKind::conflict);
    CHECK(store.remove_tenant("acme").error().kind == ErrorKind::conflict);

    must(store.advance(move.id, MoveState::planned, MoveState::aborting, "it was cancelled"));
    must(store.advance(move.id, MoveState::aborting, MoveState::aborted, ""));
    const auto aborted = must(store.find_move(move.id));
    CHECK(aborted.state == MoveState::aborted);
    CHECK(aborted.error == "it was cancelled");
    CHECK_FALSE(aborted.finished_at.empty());
    const auto next = create();
    CHECK(must(store.list_moves(true)).size() == 1);
    const auto all = must(store.list_moves(false));
    REQUIRE(all.size() == 2);
    CHECK(all[0].id == next.id);
}

TEST_CASE_FIXTURE(MoveFixture, "a move begins where the tenant is and ends where nobody else is") {
    MoveRequest request{.tenant = "acme", .cluster = "main", .database = "acme_db"};
    const auto kind_of = [&](const MoveRequest& r, const Placement& source, const Placement& target, Epoch epoch) {
        const auto move = store.create_move(r, source, target, epoch, moves_max);
        REQUIRE_FALSE(move.has_value());
        return move.error().kind;
    };
    const auto target = moved_to(acme, "acme_db");
    CHECK(kind_of({.tenant = "nobody"}, acme.placement, target, acme.epoch) == ErrorKind::not_found);
    CHECK(kind_of(request, acme.placement, target, Epoch{99}) == ErrorKind::conflict);
    auto elsewhere = acme.placement;
    elsewhere.database = "elsewhere";
    CHECK(kind_of(request, elsewhere, target, acme.epoch) == ErrorKind::conflict);
    auto unknown_cluster = target;
    unknown_cluster.cluster = "nowhere";
    CHECK(kind_of(request, acme.placement, unknown_cluster, acme.epoch) == ErrorKind::not_found);
    auto other_schema = target;
    other_schema.schema = "other";
    CHECK(kind_of(request, acme.placement, other_schema, acme.epoch) == ErrorKind::invalid);
    CHECK(must(store.list_moves(false)).empty());
}

TEST_CASE_FIXTURE(MoveFixture, "advance is a compare-and-set and knows the legal ways") {
    const auto move = create();
    must(store.advance(move.id, MoveState::planned, MoveState::preflight, ""));
    CHECK(store.advance(move.id, MoveState::planned, MoveState::preflight, "").error().kind == ErrorKind::conflict);
    CHECK(store.advance(move.id, MoveState::preflight, MoveState::completed, "").error().kind == ErrorKind::internal);
    CHECK(store.advance(MoveId{4711}, MoveState::planned, MoveState::preflight, "").error().kind ==
          ErrorKind::not_found);
    CHECK(store.advance(move.id, MoveState::drained, MoveState::flipped, "").error().kind == ErrorKind::internal);
    auto steps = must(sql().exec("SELECT state FROM pgporter.move_steps ORDER BY id"));
    REQUIRE(steps.rows() == 2);
    CHECK(steps.text(1, 0) == "preflight");
    CHECK_FALSE(sql().exec("DELETE FROM pgporter.move_steps").has_value());
}

TEST_CASE_FIXTURE(MoveFixture, "moves are admitted in their order, and only as many as there are places for") {
    CatalogDocument document = small_document();
    document.tenants.push_back(document.tenants.front());
    document.tenants.back().name = "second";
    document.tenants.back().placement.schema = "second";
    must(store.apply(document, false));
    const Tenant other = *Snapshot::build(must(store.load()))->find_tenant("second");
    const auto first = create();
    CHECK(first.place_in_line == 1);
    const MoveRequest request{.tenant = "second", .cluster = "main", .database = "second_db"};
    const auto target = moved_to(other, "second_db");
    const auto refused = store.create_move(request, other.placement, target, other.epoch, 1);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().kind == ErrorKind::limit);
    const auto second = must(store.create_move(request, other.placement, target, other.epoch, 2));
    CHECK(second.place_in_line == 2);
    CHECK(must(store.queue()).size() == 2);

    const QueueLimits one{.moves_max = 1, .moves_per_source_max = 1};
    CHECK_FALSE(must(store.admit(second.id, one)));
    CHECK(must(store.admit(first.id, one)));
    CHECK(must(store.find_move(first.id)).state == MoveState::preflight);
    CHECK(must(store.find_move(first.id)).place_in_line == 0);
    CHECK(must(store.find_move(second.id)).place_in_line == 1);
    CHECK_FALSE(must(store.admit(first.id, one)));  // it has begun already
    CHECK_FALSE(must(store.admit(second.id, one)));
    must(store.advance(first.id, MoveState::preflight, MoveState::aborting, "it was cancelled"));
    CHECK(must(store.admit(second.id, one)));
    CHECK_FALSE(must(store.admit(MoveId{4711}, one)));
}

TEST_CASE_FIXTURE(MoveFixture, "progress and cleanup records are kept") {
    const auto move = create();
    MoveProgress progress{.rows_total_estimate = 18'446'744'073'709'551'615U,
                          .rows_copied = 2,
                          .bytes_copied = 3,
                          .bytes_total_estimate = 30,
                          .bytes_per_second = 2.5,
                          .seconds_left = 7.25,
                          .throttled = 0.5,
                          .throttled_by = "neighbours",
                          .changes_applied = 4,
                          .transactions_applied = 5,
                          .rows_verified = 6,
                          .lag_bytes = 7,
                          .source_wal_bytes = 70,
                          .cutover_attempts = 8,
                          .pause_ms = 12.5,
                          .note = "now"};
    must(store.save_progress(move.id, progress));
    const auto found = must(store.find_move(move.id)).progress;
    CHECK(found.rows_total_estimate == progress.rows_total_estimate);
    CHECK(found.lag_bytes == 7);
    CHECK(found.cutover_attempts == 8);
    CHECK(found.pause_ms == doctest::Approx(12.5));
    CHECK(found.note == "now");
    CHECK(found.bytes_total_estimate == 30);
    CHECK(found.bytes_per_second == doctest::Approx(2.5));
    REQUIRE(found.seconds_left.has_value());
    CHECK(*found.seconds_left == doctest::Approx(7.25));
    CHECK(found.throttled == doctest::Approx(0.5));
    CHECK(found.throttled_by == "neighbours");
    CHECK(found.source_wal_bytes == 70);
    progress.seconds_left.reset();
    must(store.save_progress(move.id, progress));
    CHECK_FALSE(must(store.find_move(move.id)).progress.seconds_left.has_value());
    CHECK(store.save_progress(MoveId{4711}, progress).error().kind == ErrorKind::not_found);

    CleanupRecord slot{
        .move = move.id, .kind = ArtefactKind::replication_slot, .cluster = "main", .database = "app", .name = "s1"};
    CleanupRecord schema{.move = move.id,
                         .kind = ArtefactKind::target_schema,
                         .when = CleanupWhen::after_abort,
                         .cluster = "main",
                         .database = "acme_db",
                         .name = "acme"};
    const auto first = must(store.add_cleanup(slot));
    const auto second = must(store.add_cleanup(schema));
    auto open = must(store.open_cleanups(move.id));
    REQUIRE(open.size() == 2);
    CHECK(open[0].id == second);
    CHECK(open[0].when == CleanupWhen::after_abort);
    CHECK(open[1].name == "s1");
    must(store.cleanup_done(second));
    must(store.cleanup_done(second));
    open = must(store.open_cleanups(move.id));
    REQUIRE(open.size() == 1);
    CHECK(open[0].id == first);
    CHECK(store.cleanup_done(4711).error().kind == ErrorKind::not_found);
    slot.move = MoveId{4711};
    CHECK(store.add_cleanup(slot).error().kind == ErrorKind::not_found);
}

TEST_CASE_FIXTURE(MoveFixture, "the flip is one compare-and-set of epoch and state") {
    const auto move = create();
    CatalogVersion version;
    walk_to(move.id, MoveState::fenced);
    CHECK(store.flip(move.id, acme.epoch, version).error().kind == ErrorKind::conflict);  // not drained yet
    must(store.advance(move.id, MoveState::fenced, MoveState::drained, ""));

    const auto wrong_epoch = store.flip(move.id, Epoch{acme.epoch.value + 1}, version);
    REQUIRE_FALSE(wrong_epoch.has_value());
    CHECK(wrong_epoch.error().kind == ErrorKind::conflict);
    CHECK(must(store.find_move(move.id)).state == MoveState::drained);  // neither half of it happened

    const auto before = must(store.load()).version;
    const auto tenant = must(store.flip(move.id, acme.epoch, version));
    auto expected = acme;
    expected.placement = move.target;
    expected.epoch = Epoch{acme.epoch.value + 1};
    CHECK(tenant == expected);
    CHECK(version == CatalogVersion{before.value + 1});
    const auto content = must(store.load());
    CHECK(content.version == version);
    CHECK(*Snapshot::build(content)->find_tenant("acme") == expected);
    CHECK(Snapshot::build(content)->knows_database("app"));
    CHECK(must(store.find_move(move.id)).state == MoveState::flipped);

    CHECK(store.flip(move.id, acme.epoch, version).error().kind == ErrorKind::conflict);
    CHECK(store.flip(move.id, tenant.epoch, version).error().kind == ErrorKind::conflict);
    CHECK(store.advance(move.id, MoveState::flipped, MoveState::aborting, "").error().kind == ErrorKind::internal);
    must(store.advance(move.id, MoveState::flipped, MoveState::opened, ""));
    // And back, by the next epoch only.
    must(store.advance(move.id, MoveState::opened, MoveState::reversing, ""));
    CHECK(store.flip(move.id, tenant.epoch, version).error().kind == ErrorKind::conflict);
    must(store.advance(move.id, MoveState::reversing, MoveState::opened, "the slot is lost"));
    CHECK(must(store.find_move(move.id)).rollback_refused == "the slot is lost");
    must(store.advance(move.id, MoveState::opened, MoveState::reversing, ""));
    must(store.advance(move.id, MoveState::reversing, MoveState::rolling_back, ""));
    CHECK(store.flip(move.id, acme.epoch, version).error().kind == ErrorKind::conflict);
    CHECK(store.advance(move.id, MoveState::rolling_back, MoveState::flipped_back, "").error().kind == ErrorKind::internal);
    const auto back = must(store.flip(move.id, tenant.epoch, version));
    CHECK(back.placement == acme.placement);
    CHECK(back.epoch == Epoch{acme.epoch.value + 2});
    CHECK(must(store.find_move(move.id)).state == MoveState::flipped_back);
    CHECK(store.flip(move.id, tenant.epoch, version).error().kind == ErrorKind::conflict);
    CHECK(store.remove_tenant("acme").error().kind == ErrorKind::conflict);
    must(store.advance(move.id, MoveState::flipped_back, MoveState::rolled_back, ""));
    CHECK_FALSE(must(store.find_move(move.id)).finished_at.empty());
    must(store.remove_tenant("acme"));
}

TEST_CASE_FIXTURE(MoveFixture, "a rollback is flipped by the process that began it") {
    using enum MoveState;
    const auto move = create();
    walk_to(move.id, drained);
    CatalogVersion version;
    const auto there = must(store.flip(move.id, acme.epoch, version));
    must(store.advance(move.id, flipped, opened, ""));
    must(store.advance(move.id, opened, reversing, ""));
    must(store.advance(move.id, reversing, rolling_back, ""));
    // It is stopped; another instance takes the move over and begins again, in the same state.
    CatalogStore other(config);
    must(other.open());
    must(other.advance(move.id, rolling_back, reversing, "taken over"));
    must(other.advance(move.id, reversing, rolling_back, ""));
    const auto late = store.flip(move.id, there.epoch, version);
    REQUIRE_FALSE(late.has_value());
    CHECK(late.error().kind == ErrorKind::conflict);
    CHECK(must(store.find_move(move.id)).state == rolling_back);
    CHECK(must(other.flip(move.id, there.epoch, version)).placement == acme.placement);
}

TEST_CASE_FIXTURE(MoveFixture, "of two flips at once exactly one wins") {
    const auto move = create();
    walk_to(move.id, MoveState::drained);
    CatalogStore other(config);
    must(other.open());
    int won = 0;
    std::mutex mutex;
    const auto flip = [&](CatalogStore& with) {
        CatalogVersion version;
        const bool mine = with.flip(move.id, acme.epoch, version).has_value();
        const std::lock_guard lock(mutex);
        won += mine ? 1 : 0;
    };
    std::thread first([&] { flip(store); });
    std::thread second([&] { flip(other); });
    first.join();
    second.join();
    CHECK(won == 1);
    CHECK(Snapshot::build(must(store.load()))->find_tenant("acme")->epoch == Epoch{acme.epoch.value + 1});
}

// A sleeping deferred trigger keeps the flip inside its COMMIT, where the server side of the connection is ended.
TEST_CASE_FIXTURE(MoveFixture, "a connection lost during COMMIT: the outcome is read, not guessed") {
    const auto move = create();
    walk_to(move.id, MoveState::drained);
    must(
        sql().exec("CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                   "IF NEW.state = 'flipped' THEN PERFORM pg_sleep(8); END IF; RETURN NULL; END $$; "
                   "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON pgporter.moves DEFERRABLE INITIALLY DEFERRED "
                   "FOR EACH ROW EXECUTE FUNCTION public.slow()"));
    std::thread killer([&] {
        auto admin = sql();
        (void)becomes_true([&] {
            return must(admin.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT' AND "
                                   "state = 'active' "
                                   "AND datname = current_database()"))
                       .rows() > 0;
        });
    });
    CatalogVersion version;
    const auto flipped = store.flip(move.id, acme.epoch, version);
    killer.join();
    REQUIRE_FALSE(flipped.has_value());
    CHECK(flipped.error().kind == ErrorKind::unavailable);
    CHECK(flipped.error().message.find("was not committed") != std::string::npos);
    CHECK(must(store.find_move(move.id)).state == MoveState::drained);
    must(sql().exec("DROP TRIGGER slow ON pgporter.moves"));
    CHECK(must(store.flip(move.id, acme.epoch, version)).epoch == Epoch{acme.epoch.value + 1});
}

// With a standby that never answers the server has committed, but waits before it says so; there its session is ended.
TEST_CASE_FIXTURE(MoveFixture, "a connection lost after the server committed: the flip is done, and said to be") {
    const auto move = create();
    walk_to(move.id, MoveState::drained);
    const auto wait_for_standby = [](PgConnection& with, const std::string& names) {
        must(with.exec("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'"));
        must(with.exec("SELECT pg_reload_conf()"));
        return becomes_true([&] { return must(with.exec("SHOW synchronous_standby_names")).text(0, 0) == names; });
    };
    auto admin = sql();
    REQUIRE(wait_for_standby(admin, "nobody"));
    REQUIRE(becomes_true([&] { return commit_waits_for_standby(admin); }));
    bool ended = false;
    std::thread killer([&] {
        ended = becomes_true([&] { return end_who_waits_for_standby(admin); }, std::chrono::seconds(8));
        (void)wait_for_standby(admin, "");
    });
    CatalogVersion version;
    const auto flipped = store.flip(move.id, acme.epoch, version);
    killer.join();
    CHECK(ended);
    REQUIRE(flipped.has_value());
    CHECK(flipped->epoch == Epoch{acme.epoch.value + 1});
    CHECK(must(store.find_move(move.id)).state == MoveState::flipped);
    CHECK(must(store.load()).version == version);
}

TEST_CASE_FIXTURE(MoveFixture, "a step's token tells whether it was made, also while its transaction still runs") {
    const auto move = create();
    StoreConnection connection(config);
    auto other = sql();
    must(other.exec(
        "BEGIN; SELECT 1 FROM pgporter.moves FOR UPDATE; "
        "INSERT INTO pgporter.move_steps (move, state, token) SELECT id, 'preflight', 'made' FROM pgporter.moves"));
    std::thread committer([&] {
        auto admin = sql();
        (void)becomes_true([&] { return must(admin.exec("SELECT 1 FROM pg_locks WHERE NOT granted")).rows() > 0; });
        must(other.exec("COMMIT"));
    });
    CHECK(must(step_was_made(connection, StepQuestion::of_move("made", move.id))));
    committer.join();
    CHECK_FALSE(must(step_was_made(connection, StepQuestion::of_move("never", move.id))));
}

TEST_CASE_FIXTURE(MoveFixture, "a move has one owner, whoever asks, until that owner ends") {
    const auto move = create();
    CatalogStore other(config);
    auto owner = must(store.own_move(move.id));
    CHECK(other.own_move(move.id).error().kind == ErrorKind::conflict);
    CHECK(store.own_move(move.id).error().kind == ErrorKind::conflict);
    CHECK(other.own_move(MoveId{move.id.value + 1}).has_value());
    owner.reset();
    std::unique_ptr<MoveOwnership> taken;
    CHECK(becomes_true([&] {  // the server needs a moment to see that the session has ended
        auto next = other.own_move(move.id);
        if (next) taken = *std::move(next);
        return taken != nullptr;
    }));
}
