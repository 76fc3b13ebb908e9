// What is decided before servers are asked: entries of an archive's list, sequences, environments, texts
// for the journal.
#include <doctest/doctest.h>

#include "admin/mover/definitions.hpp"
#include "admin/mover/move_run.hpp"
#include "admin/mover/sequences.hpp"

using namespace pgporter;

TEST_CASE("indexes are told from the rest of an archive's list") {
    const IndexEntries entries({{"acme", "orders", "orders_pkey", true, true}, {"acme", "names", "by_name", false, false}, {"acme", "a b", "c d", false, false}});
    for (const auto* made : {"3345; 2606 16398 CONSTRAINT acme orders orders_pkey app", "3350; 1259 16401 INDEX acme by_name app",
                             "3345; 2606 16398 CONSTRAINT acme orders orders_pkey an owner", "3345; 2606 16398 CONSTRAINT acme a b c d an owner"}) {
        CAPTURE(made);
        CHECK(entries.makes_one(made));
    }
    for (const auto* other :
         {"3345; 2606 16398 CONSTRAINT acme orders orders_unique app", "3345; 2606 16398 CONSTRAINT acme lines orders_pkey app",
          "3350; 1259 16401 INDEX acme by_name_2 app", "3350; 1259 16401 INDEX other by_name app", "3351; 0 0 INDEX ATTACH acme orders_pkey app",
          "3352; 2606 16409 FK CONSTRAINT acme orders orders_pkey app", "3352; 2620 16409 TRIGGER acme orders touch app",
          "3353; 0 0 COMMENT acme CONSTRAINT orders_pkey ON orders app", "; Archive created at 2024-01-01 CONSTRAINT acme orders orders_pkey", ""}) {
        CAPTURE(other);
        CHECK_FALSE(entries.makes_one(other));
    }
}

TEST_CASE("what is there already, and fences, are left out of what is restored") {
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
