// What is decided before servers are asked: copy chunks, entries of an archive's list, sequences, environments, texts
// for the journal.
#include <doctest/doctest.h>

#include "admin/mover/copy_tables.hpp"
#include "admin/mover/definitions.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/sequences.hpp"

using namespace pgporter;

namespace {

SourceTable table_of(std::string name, std::uint64_t pages, bool partitioned = false) {
    SourceTable table;
    table.schema = "acme";
    table.name = std::move(name);
    table.pages = pages;
    table.partitioned = partitioned;
    table.columns.resize(1);
    table.columns[0].name = "id";
    return table;
}

}  // namespace

TEST_CASE("copy chunks cover every page of every table once, the last without an end, largest first") {
    const std::vector<SourceTable> tables{table_of("small", 0), table_of("exact", 20), table_of("large", 25),
                                          table_of("parent", 0, true)};
    const auto chunks = plan_copy(tables, TargetTables::own, 10, 4);
    std::uint64_t covered = 0;
    std::size_t open = 0;
    for (const auto& chunk : chunks) {
        CHECK_FALSE(chunk.table->partitioned);
        covered += (chunk.end_page == 0 ? chunk.table->pages : chunk.end_page) - chunk.first_page;
        open += chunk.end_page == 0 ? 1 : 0;
    }
    CHECK(covered == 45);
    CHECK(open == 3);
    CHECK(chunks.front().end_page - chunks.front().first_page == 10);
    CHECK(chunks.back().table == &tables[0]);
    // Two threads have enough of whole tables.
    CHECK(plan_copy(tables, TargetTables::own, 10, 2).size() == 3);
    CHECK(plan_copy(tables, TargetTables::own, 10, 1).size() == 3);
    const std::vector<SourceTable> uneven{table_of("dominant", 90), table_of("small", 10)};
    CHECK(plan_copy(uneven, TargetTables::own, 10, 2).size() == 10);
    // Frozen: what is copied at once into a table that nobody else has rows in.
    for (const auto& chunk : plan_copy(uneven, TargetTables::own, 10, 2)) CHECK(chunk.frozen == (chunk.table == &uneven[1]));
    for (const auto& chunk : plan_copy(tables, TargetTables::shared, 10, 2)) CHECK_FALSE(chunk.frozen);
}

TEST_CASE("copy statements: pages by ctid, binary unless a column forbids it") {
    auto table = table_of("t", 100);
    CHECK(copy_out_statement({&table, 0, 0}) == "COPY \"acme\".\"t\" (\"id\") TO STDOUT (FORMAT binary)");
    CHECK(copy_out_statement({&table, 10, 20}) ==
          "COPY (SELECT \"id\" FROM ONLY \"acme\".\"t\" AS t WHERE ctid >= '(10,0)' AND ctid < '(20,0)') TO STDOUT (FORMAT "
          "binary)");
    CHECK(copy_out_statement({&table, 0, 20}) ==
          "COPY (SELECT \"id\" FROM ONLY \"acme\".\"t\" AS t WHERE ctid < '(20,0)') TO STDOUT (FORMAT binary)");
    CHECK(copy_in_statement({&table, 0, 20}) == "COPY \"acme\".\"t\" (\"id\") FROM STDIN (FORMAT binary)");
    CHECK(copy_in_statement({&table, 0, 0, true}) == "COPY \"acme\".\"t\" (\"id\") FROM STDIN (FORMAT binary, FREEZE)");
    table.columns[0].text_only = true;
    CHECK(copy_in_statement({&table, 0, 0, true}) == "COPY \"acme\".\"t\" (\"id\") FROM STDIN (FREEZE)");
    CHECK(copy_in_statement({&table, 0, 20}) == "COPY \"acme\".\"t\" (\"id\") FROM STDIN");
}

TEST_CASE("what is there already, and fences, are left out of an archive's list") {
    CHECK(is_left_out("6; 2615 2200 SCHEMA - public pg_database_owner", {"public"}));
    CHECK_FALSE(is_left_out("6; 2615 2200 SCHEMA - public pg_database_owner", {}));
    CHECK_FALSE(is_left_out("3448; 0 0 ACL - SCHEMA public pg_database_owner", {"public"}));
    CHECK(is_left_out("3296; 2620 16502 TRIGGER public t pgporter_fence_7_write postgres", {}));
    CHECK_FALSE(is_left_out("3352; 2620 16409 TRIGGER acme orders touch app", {"acme"}));
}

TEST_CASE("only sequences that differ are set, with their names quoted twice") {
    const std::vector<SequenceValue> known{{"acme", "a", 5, true}, {"acme", "it's", 1, false}};
    auto now = known;
    CHECK(set_sequences_statement(now, known).empty());
    now[1].is_called = true;
    CHECK(set_sequences_statement(now, known) ==
          "SELECT pg_catalog.setval(sequence, last_value, is_called) FROM (VALUES ('\"acme\".\"it''s\"'::regclass, "
          "1::bigint, true)) "
          "AS v (sequence, last_value, is_called)");
}

TEST_CASE("client programs get their connection by environment, the password too") {
    LibpqParams params;
    params.keywords = {{"host", "h"},
                       {"port", "5"},
                       {"dbname", "d"},
                       {"user", "u"},
                       {"sslmode", "verify-full"},
                       {"application_name", "a"}};
    params.password = Secret("s3cret");
    const auto environment = client_environment(params);
    const auto has = [&](const char* name, const char* value) {
        return std::find(environment.begin(), environment.end(), std::pair<std::string, std::string>(name, value)) !=
               environment.end();
    };
    CHECK(has("PGHOST", "h"));
    CHECK(has("PGPORT", "5"));
    CHECK(has("PGDATABASE", "d"));
    CHECK(has("PGUSER", "u"));
    CHECK(has("PGSSLMODE", "verify-full"));
    CHECK(has("PGAPPNAME", "a"));
    CHECK(has("PGPASSWORD", "s3cret"));
}

TEST_CASE("the journal gets nothing but UTF-8") {
    CHECK(utf8_only("plain") == "plain");
    CHECK(utf8_only("gr\xC3\xBC\xC3\x9F") == "gr\xC3\xBC\xC3\x9F");
    CHECK(utf8_only("latin \xFC!") == "latin ?!");
    CHECK(utf8_only(std::string("nul\0x", 5)) == "nul?x");
    CHECK(utf8_only("cut \xE2\x82") == "cut ??");
    CHECK(utf8_only("\xC0\x80") == "??");
}
