#include "admin/mover/changed_rows.hpp"

#include <doctest/doctest.h>

#include "admin/mover/fingerprint.hpp"

using namespace pgporter;
using namespace pgporter::pgoutput;

namespace {

SourceTable table_with_keys(int keys) {
    SourceTable table;
    table.schema = "acme";
    table.name = "t";
    for (int i = 0; i < 2; ++i) {
        TableColumn column;
        column.name = "c" + std::to_string(i);
        column.type = i == 0 ? "integer" : "text";
        column.key = i < keys;
        if (column.key) table.key.push_back(static_cast<std::size_t>(i));
        table.columns.push_back(column);
    }
    return table;
}

Tuple row(std::string_view a, std::string_view b) {
    return {{ValueKind::text, a}, {ValueKind::text, b}};
}

}  // namespace

TEST_CASE("keys survive their encoding, whatever is in them") {
    const auto table = table_with_keys(2);
    for (const auto* text : {"", "a", "with \"quotes\"", "\n", "a,b"}) {
        CHECK(decode_key(encode_key(table, row("12", text))) == std::vector<std::string>{"12", text});
    }
    CHECK(encode_key(table, row("1", "23")) != encode_key(table, row("12", "3")));
}

TEST_CASE("a changed key is remembered under both its names, once each") {
    const auto table = table_with_keys(1);
    ChangedRows changed;
    changed.add_change(table, Insert{1, row("1", "x")});
    changed.add_change(table, Update{1, OldRow::none, {}, row("1", "y")});
    CHECK(changed.keyed_rows() == 1);
    changed.add_change(table, Update{1, OldRow::key, row("1", ""), row("2", "y")});
    changed.add_change(table, Delete{1, OldRow::key, row("3", "")});
    CHECK(changed.keyed_rows() == 3);
}

TEST_CASE("a table without a key, or truncated, is remembered as a whole") {
    const auto keyless = table_with_keys(0);
    const auto keyed = table_with_keys(1);
    ChangedRows changed;
    changed.add_change(keyless, Insert{1, row("1", "x")});
    CHECK(changed.tables().at(&keyless).whole);
    changed.add_change(keyed, Insert{1, row("1", "x")});
    changed.add_whole(keyed);
    changed.add_change(keyed, Insert{1, row("2", "x")});
    CHECK(changed.tables().at(&keyed).whole);
    CHECK(changed.keyed_rows() == 0);
}

TEST_CASE("too many keys make the table count as a whole") {
    const auto table = table_with_keys(1);
    ChangedRows changed;
    for (std::size_t i = 0; i <= ChangedRows::keys_max; ++i) changed.add(table, row(std::to_string(i), ""));
    CHECK(changed.tables().at(&table).whole);
    CHECK(changed.keyed_rows() == 0);
}

TEST_CASE("comparing changed rows: bounded queries, every key in exactly one") {
    const auto table = table_with_keys(2);
    const auto other = table_with_keys(0);
    ChangedRows changed;
    for (int i = 0; i < 25; ++i) changed.add(table, row(std::to_string(i), "it's"));
    changed.add_whole(other);
    const auto queries = change_queries(changed, 10);
    std::size_t parts = 0;
    std::size_t whole = 0;
    std::size_t keys = 0;
    for (const auto& query : queries) {
        parts += query.tables.size();
        for (std::size_t i = 0; i < query.tables.size(); ++i) whole += query.whole[i] ? 1 : 0;
        for (std::size_t at = query.target_sql.find("it''s"); at != std::string::npos; at = query.target_sql.find("it''s", at + 1))
            ++keys;
    }
    CHECK(queries.size() >= 3);
    CHECK(parts == 4);
    CHECK(whole == 1);
    CHECK(keys == 25);
    CHECK(change_queries(ChangedRows{}, 10).empty());
}

TEST_CASE("differences are told in words") {
    auto a = table_with_keys(1);
    a.name = "a";
    const auto t = table_with_keys(1);
    CHECK(describe({{&a, 2, 1}, {&t, 3, 3}}) ==
          "acme.a: 2 rows on the source, 1 on the target; acme.t: contents of 3 compared rows differ");
    CHECK(describe(std::vector<Difference>(12, {&t, 1, 2})).ends_with("and 2 more tables"));
}

TEST_CASE("a truncated table is known as such, and as a whole") {
    const auto table = table_with_keys(1);
    ChangedRows changed;
    changed.add_change(table, Insert{1, row("1", "x")});
    CHECK_FALSE(changed.truncated(table));
    changed.add_truncated(table);
    CHECK(changed.truncated(table));
    CHECK(changed.tables().at(&table).whole);
}

TEST_CASE("what wasn't compared is put back: keys once each, whole and truncated tables as such") {
    const auto keyed = table_with_keys(1);
    const auto keyless = table_with_keys(0);
    const auto truncated = table_with_keys(1);
    ChangedRows taken;
    taken.add_change(keyed, Insert{1, row("1", "x")});
    taken.add_change(keyed, Insert{1, row("2", "x")});
    taken.add_change(keyless, Insert{1, row("1", "x")});
    taken.add_truncated(truncated);
    ChangedRows changed;
    changed.add_change(keyed, Insert{1, row("2", "y")});
    changed.add_change(keyed, Insert{1, row("3", "y")});
    changed.add_change(truncated, Insert{1, row("1", "y")});
    changed.add_all(taken);
    CHECK(changed.tables().at(&keyed).keys.size() == 3);
    CHECK(changed.keyed_rows() == 3);
    CHECK(changed.tables().at(&keyless).whole);
    CHECK_FALSE(changed.truncated(keyless));
    CHECK(changed.truncated(truncated));
    CHECK(changed.tables().at(&truncated).keys.empty());
}
