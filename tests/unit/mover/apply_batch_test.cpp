#include "admin/mover/apply_batch.hpp"

#include <doctest/doctest.h>

using namespace pgporter;
using namespace pgporter::pgoutput;

namespace {

// Of a table with a key of two columns and a third one.
SourceTable lines() {
    SourceTable table;
    table.schema = "acme";
    table.name = "lines";
    table.rows_estimate = 50'000;
    for (const auto& [name, type, key] : {std::tuple{"order", "bigint", true}, {"line", "integer", true}, {"note", "text", false}}) {
        TableColumn column;
        column.name = name;
        column.type = type;
        column.key = key;
        if (key) table.key.push_back(table.columns.size());
        table.columns.push_back(column);
    }
    return table;
}

Value text(std::string_view bytes) {
    return {ValueKind::text, bytes};
}
const Value null_value{};
const Value toast{ValueKind::unchanged_toast, {}};

Message update_of(std::string_view order, std::string_view line, Value note) {
    return Update{1, OldRow::none, {}, {text(order), text(line), note}};
}

}  // namespace

TEST_CASE("a batch of inserts is one statement with the values of all rows") {
    const auto table = lines();
    Batch batch;
    for (const auto* line : {"1", "2"}) {
        auto row = batch_row(table, Insert{1, {text("7"), text(line), null_value}});
        REQUIRE(row.has_value());
        REQUIRE(batch.takes(*row));
        batch.add(std::move(*row));
    }
    CHECK(batch_statement(table, batch.form(), 2) ==
          "INSERT INTO \"acme\".\"lines\" (\"order\", \"line\", \"note\") OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3), ($4, $5, $6)");
    const auto values = batch.values();
    REQUIRE(values.size() == 6);
    CHECK(std::string_view(values[0]) == "7");
    CHECK(values[2] == nullptr);
    CHECK(std::string_view(values[4]) == "2");
}

TEST_CASE("updates join what they set by the key; one alone needs no join") {
    const auto table = lines();
    const auto row = batch_row(table, update_of("7", "1", text("n")));
    REQUIRE(row.has_value());
    CHECK(batch_statement(table, row->form, 2) ==
          "UPDATE ONLY \"acme\".\"lines\" AS t SET \"note\" = v.c2 FROM (VALUES ($1::bigint, $2::integer, $3::text), ($4::bigint, "
          "$5::integer, $6::text)) AS v (c0, c1, c2) WHERE t.\"order\" = v.c0 AND t.\"line\" = v.c1");
    CHECK(batch_statement(table, row->form, 1) ==
          "UPDATE ONLY \"acme\".\"lines\" AS t SET \"note\" = $3 WHERE t.\"order\" = $1 AND t.\"line\" = $2");
}

TEST_CASE("deletes are found by their keys") {
    const auto table = lines();
    const auto row = batch_row(table, Delete{1, OldRow::key, {text("7"), text("1"), null_value}});
    REQUIRE(row.has_value());
    CHECK(batch_statement(table, row->form, 2) ==
          "DELETE FROM ONLY \"acme\".\"lines\" AS t USING (VALUES ($1::bigint, $2::integer), ($3::bigint, $4::integer)) AS v (c0, c1) "
          "WHERE t.\"order\" = v.c0 AND t.\"line\" = v.c1");
    CHECK(batch_statement(table, row->form, 1) == "DELETE FROM ONLY \"acme\".\"lines\" AS t WHERE t.\"order\" = $1 AND t.\"line\" = $2");
}

TEST_CASE("a batch takes a row once, and one kind and form only") {
    const auto table = lines();
    Batch batch;
    batch.add(*batch_row(table, update_of("7", "1", text("n"))));
    CHECK_FALSE(batch.takes(*batch_row(table, update_of("7", "1", text("m")))));
    CHECK(batch.takes(*batch_row(table, update_of("7", "2", text("m")))));
    CHECK(batch.takes(*batch_row(table, update_of("71", "", text("m")))));
    CHECK_FALSE(batch.takes(*batch_row(table, Insert{1, {text("8"), text("1"), null_value}})));
    CHECK_FALSE(batch.takes(*batch_row(table, Delete{1, OldRow::key, {text("9"), text("1"), null_value}})));
    batch.clear();
    CHECK(batch.takes(*batch_row(table, update_of("7", "1", text("m")))));
    CHECK(batch.takes(*batch_row(table, Insert{1, {text("8"), text("1"), null_value}})));
}

TEST_CASE("a batch is bounded by rows and bytes") {
    const auto table = lines();
    Batch batch;
    const std::string large(Batch::bytes_max, 'x');
    batch.add(*batch_row(table, Insert{1, {text("1"), text("1"), text(large)}}));
    CHECK(batch.full());
    batch.clear();
    for (std::size_t i = 0; i < Batch::rows_max; ++i) {
        CHECK_FALSE(batch.full());
        batch.add(*batch_row(table, Insert{1, {text("1"), text(std::to_string(i)), null_value}}));
    }
    CHECK(batch.full());
    CHECK_FALSE(batch.takes(*batch_row(table, Insert{1, {text("1"), text("x"), null_value}})));
}

TEST_CASE("what must go alone") {
    auto table = lines();
    CHECK_FALSE(batch_row(table, update_of("7", "1", toast)).has_value());  // nothing to set: it still must find its row
    CHECK_FALSE(batch_row(table, Update{1, OldRow::key, {text("7"), text("1"), null_value}, {text("8"), text("1"), toast}}).has_value());
    CHECK_FALSE(batch_row(table, Insert{1, {text("7"), text("1")}}).has_value());
    CHECK_FALSE(batch_row(table, Delete{1, OldRow::key, {text("7"), null_value, null_value}}).has_value());
    CHECK_FALSE(batch_row(table, Truncate{}).has_value());

    table.other_unique = true;
    CHECK_FALSE(batch_row(table, update_of("7", "1", text("n"))).has_value());
    CHECK(batch_row(table, Insert{1, {text("7"), text("1"), null_value}}).has_value());

    table = lines();
    table.columns[2].identity_always = true;
    CHECK_FALSE(batch_row(table, update_of("7", "1", text("5"))).has_value());  // can't be assigned

    table = lines();
    table.rows_estimate = 100;
    CHECK_FALSE(batch_row(table, update_of("7", "1", text("n"))).has_value());
    CHECK(batch_row(table, Insert{1, {text("7"), text("1"), null_value}}).has_value());
}

TEST_CASE("a rest is taken apart into few sizes, and wide rows into smaller ones") {
    CHECK(batch_size(64, 6) == 64);
    CHECK(batch_size(63, 6) == 16);
    CHECK(batch_size(15, 6) == 4);
    CHECK(batch_size(3, 6) == 1);
    CHECK(batch_size(64, 1'000) == 16);
    CHECK(batch_size(64, 1'600) == 16);
}
