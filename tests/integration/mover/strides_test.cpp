// A slowed copy reads a table in many short strides: by pages, or, where the table goes by ranges of its key, by that key. Whatever the keys
// are like, every row arrives once.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "tests/integration/mover/move_world.hpp"
#include "tests/integration/mover/told_latency.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

// By ranges of their key, because it leads with an integer: `far` from one end of the type to the other, with gaps; `twofold` with up to 10,000
// rows for one value of its first column; `shards` by another unique index than the primary key's, a narrow type and a uuid; `documents` with TOAST.
// By pages, because their keys don't: `words` (two collations, one of which calls different texts equal), `tokens`; and `heap`, which has none.
constexpr const char* stride_tables = R"sql(
SET search_path = acme, public;
CREATE TABLE far (id bigint PRIMARY KEY, filler text);
INSERT INTO far SELECT -9223372036854775808 + i, repeat('a', 150) FROM generate_series(0, 4999) AS i;
INSERT INTO far SELECT i, repeat('b', 150) FROM generate_series(-5000, 10000) AS i;
INSERT INTO far SELECT 1000000000000 + i::bigint * 7919, repeat('c', 150) FROM generate_series(1, 10000) AS i;
INSERT INTO far SELECT 9223372036854775807 - i, repeat('d', 150) FROM generate_series(4999, 0, -1) AS i;
CREATE TABLE twofold (box int, line smallint, filler text, PRIMARY KEY (box, line));
INSERT INTO twofold SELECT b, l, repeat('e', 120) FROM generate_series(1, 1500) AS b,
  generate_series(1, CASE WHEN b = 700 THEN 10000 ELSE 5 + b % 20 END) AS l;
CREATE TABLE shards (shard smallint NOT NULL, token uuid NOT NULL DEFAULT gen_random_uuid(), id bigserial PRIMARY KEY, filler text);
CREATE UNIQUE INDEX shards_by_token ON shards (shard, token);
ALTER TABLE shards REPLICA IDENTITY USING INDEX shards_by_token;
INSERT INTO shards (shard, filler) SELECT i / 10 - 1000, repeat('f', 200) FROM generate_series(1, 20000) AS i;
CREATE TABLE documents (id int PRIMARY KEY, filler text, body text);
ALTER TABLE documents ALTER body SET STORAGE EXTERNAL;
INSERT INTO documents SELECT i, repeat('g', 1000), CASE WHEN i % 50 = 0 THEN repeat('body', 20000) END FROM generate_series(1, 2500) AS i;
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE words (word text COLLATE "und-x-icu", blind text COLLATE blind, n int, filler text, PRIMARY KEY (word, blind, n));
INSERT INTO words SELECT CASE i % 3 WHEN 0 THEN 'Wort ' WHEN 1 THEN 'wort ' ELSE 'w-ort ' END || i / 6,
  CASE i % 2 WHEN 0 THEN 'A' ELSE 'a' END, i, repeat('h', 300) FROM generate_series(1, 10000) AS i;
CREATE TABLE tokens (token uuid PRIMARY KEY DEFAULT gen_random_uuid(), filler text);
INSERT INTO tokens (filler) SELECT repeat('i', 300) FROM generate_series(1, 10000);
CREATE TABLE heap (n int, filler text);
ALTER TABLE heap REPLICA IDENTITY FULL;
INSERT INTO heap SELECT i % 100, repeat('j', 300) FROM generate_series(1, 10000) AS i;
DELETE FROM far WHERE id % 17 = 0;
UPDATE twofold SET filler = filler || 'k' WHERE line % 41 = 0;
)sql";

// Of each table all rows, in an order that only their contents decide.
std::string all_rows(PostgresServer& server, const std::string& database) {
    std::string rows;
    for (const auto* table : {"far", "twofold", "shards", "documents", "words", "tokens", "heap"}) {
        rows += std::string(table) + " " + MoveWorld::sql(server, database, "SELECT count(*), md5(string_agg(row, '|' ORDER BY row COLLATE \"C\")) FROM "
                                                          "(SELECT md5(t::text) AS row FROM acme." + std::string(table) + " t) AS rows") + "\n";
    }
    return rows;
}

// How often the source has used the index that ranges of the table's key are read by.
int index_scans(MoveWorld& world, const std::string& index) {
    return std::stoi(world.on_source("SELECT idx_scan FROM pg_stat_user_indexes WHERE schemaname = 'acme' AND indexrelname = '" + index + "'"));
}

void make_tables(MoveWorld& world) {
    world.config().mover.copy_piece_mib = 2;
    world.on_source(stride_tables);
    world.on_source("VACUUM ANALYZE acme.far, acme.twofold, acme.shards, acme.documents, acme.words, acme.tokens, acme.heap");
}

}  // namespace

TEST_CASE("strides by keys of all kinds, and by pages, bring every row once") {
    MoveWorld world;
    make_tables(world);
    world.config().mover.copy_mib_per_s_max = 40;  // slowed from the first row to the last
    const auto before = all_rows(world.source_server(), "shared");
    const auto record = world.run(world.request(), MoveState::reversing);
    CHECK(record.error == "");
    CHECK(all_rows(world.target_server(), "acme_own") == before);
    // 128 KiB at a time, of 4 to 7 MiB, each found and read; else there is a scan a range, 6 to 14. No index that no range can use was used.
    for (const std::string index : {"far_pkey", "twofold_pkey", "shards_by_token", "documents_pkey"}) {
        CAPTURE(index);
        CHECK(index_scans(world, index) > 60);
    }
    for (const std::string index : {"words_pkey", "tokens_pkey", "shards_pkey"}) {
        CAPTURE(index);
        CHECK(index_scans(world, index) == 0);
    }
}

TEST_CASE("strides that become longer and shorter on the way, while keys change, bring every row once") {
    MoveWorld world;
    make_tables(world);
    ToldLatency latency;
    world.set_latency(&latency);
    world.config().mover.throttled_percent_min = 20;
    std::atomic<bool> ended{false};
    const auto subscription = world.mover().subscribe([&](const MoveEvent& event) {
        if (event.type == "state" && event.record.state == MoveState::index) ended.store(true);
    });
    std::thread swinging([&] {
        const auto began = std::chrono::steady_clock::now();
        for (int i = 0; !ended.load(); ++i) {
            const auto tenths = (std::chrono::steady_clock::now() - began) / std::chrono::milliseconds(100);
            latency.microseconds.store(tenths % 15 < 5 ? 2'000 : 400);
            const auto at = std::to_string(1 + i * 37 % 4'500);
            // From one stride or piece to another, and to the ends.
            world.on_source("UPDATE acme.far SET id = id + 20000 WHERE id = " + at);
            world.on_source("UPDATE acme.twofold SET box = 3000 - box WHERE box = " + std::to_string(i % 1'490));
            world.on_source("UPDATE acme.shards SET shard = -shard WHERE shard = " + std::to_string(i % 990));
            world.on_source("INSERT INTO acme.words VALUES ('ende', '" + at + "', " + std::to_string(-i) + ", '')");
            world.on_source("DELETE FROM acme.documents WHERE id = " + at);
        }
    });
    const auto started = world.mover().start(world.request());
    CHECK(started.has_value());
    const auto record = world.wait_for(started->id, {MoveState::reversing, MoveState::aborted}, std::chrono::seconds(180));
    ended.store(true);
    swinging.join();
    world.mover().unsubscribe(subscription);
    CHECK(record.error == "");
    CHECK(all_rows(world.target_server(), "acme_own") == all_rows(world.source_server(), "shared"));
    world.set_latency(nullptr);
}
