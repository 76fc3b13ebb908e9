#include "admin/mover/apply_statements.hpp"

#include <doctest/doctest.h>

using namespace pgporter;
using namespace pgporter::pgoutput;

namespace {

SourceTable orders() {
    SourceTable table;
    table.oid = 1;
    table.schema = "acme";
    table.name = "or\"ders";
    TableColumn id;
    id.name = "id";
    id.type = "integer";
    id.type_oid = 23;
    id.key = true;
    TableColumn note;
    note.name = "note";
    note.type = "text";
    note.type_oid = 25;
    TableColumn doc;
    doc.name = "doc";
    doc.type = "json";
    doc.type_oid = 114;
    doc.comparable = false;
    table.columns = {id, note, doc};
    table.key = {0};
    return table;
}

SourceTable keyless() {
    auto table = orders();
    table.replica_identity = 'f';
    table.columns[0].key = false;
    table.key.clear();
    return table;
}

Value text(std::string_view bytes) {
    return {ValueKind::text, bytes};
}
const Value null_value{};
const Value toast{ValueKind::unchanged_toast, {}};

}  // namespace

TEST_CASE("insert names its columns and keeps what identity columns hold") {
    const auto statement = insert_statement(orders(), {1, {text("7"), null_value, text("{}")}});
    REQUIRE(statement.has_value());
    CHECK(
        statement->sql ==
        "INSERT INTO \"acme\".\"or\"\"ders\" (\"id\", \"note\", \"doc\") OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3)");
    REQUIRE(statement->values.size() == 3);
    CHECK(statement->values[0] == "7");
    CHECK_FALSE(statement->values[1].has_value());
}

TEST_CASE("update sets what was sent and leaves unchanged TOAST alone") {
    const auto statement = update_statement(orders(), {1, OldRow::none, {}, {text("7"), text("n"), toast}});
    REQUIRE(statement.has_value());
    CHECK(statement->sql == "UPDATE ONLY \"acme\".\"or\"\"ders\" AS t SET \"note\" = $1 WHERE t.\"id\" = $2");
    CHECK(statement->values[0] == "n");
    CHECK(statement->values[1] == "7");
}

TEST_CASE("update with a changed key finds the old row") {
    const auto statement =
        update_statement(orders(), {1, OldRow::key, {text("7"), null_value, null_value}, {text("8"), toast, toast}});
    REQUIRE(statement.has_value());
    CHECK(statement->sql == "UPDATE ONLY \"acme\".\"or\"\"ders\" AS t SET \"id\" = $1 WHERE t.\"id\" = $2");
    CHECK(statement->values[0] == "8");
    CHECK(statement->values[1] == "7");
}

TEST_CASE("update that sets nothing still looks for its row") {
    const auto statement = update_statement(orders(), {1, OldRow::none, {}, {text("7"), toast, toast}});
    REQUIRE(statement.has_value());
    CHECK(statement->sql == "SELECT 1 FROM ONLY \"acme\".\"or\"\"ders\" AS t WHERE t.\"id\" = $1");
}

TEST_CASE("delete by key, and by the whole row where there is none") {
    const auto keyed = delete_statement(orders(), {1, OldRow::key, {text("7"), null_value, null_value}});
    REQUIRE(keyed.has_value());
    CHECK(keyed->sql == "DELETE FROM ONLY \"acme\".\"or\"\"ders\" AS t WHERE t.\"id\" = $1");
    const auto full = delete_statement(keyless(), {1, OldRow::full, {text("7"), null_value, text("{}")}});
    REQUIRE(full.has_value());
    CHECK(full->sql ==
          "DELETE FROM ONLY \"acme\".\"or\"\"ders\" AS t WHERE t.ctid = (SELECT c.ctid FROM ONLY "
          "\"acme\".\"or\"\"ders\" AS c WHERE "
          "c.\"id\" = $1::integer AND c.\"note\" IS NULL AND c.\"doc\"::text = $2::text "
          "ORDER BY (ROW(c.\"id\")::record *= ROW($1::integer)::record) DESC LIMIT 1)");
    CHECK(full->values.size() == 2);
}

TEST_CASE("a generated-always identity is never assigned by update: the row is replaced when it may have changed") {
    auto table = orders();
    table.columns[0].identity_always = true;
    const auto same = update_statement(table, {1, OldRow::none, {}, {text("7"), text("n"), toast}});
    REQUIRE(same.has_value());
    CHECK(same->sql.starts_with("UPDATE ONLY"));
    const auto moved =
        update_statement(table, {1, OldRow::key, {text("7"), null_value, null_value}, {text("8"), text("n"), toast}});
    REQUIRE(moved.has_value());
    CHECK(moved->sql ==
          "WITH old AS (DELETE FROM ONLY \"acme\".\"or\"\"ders\" AS t WHERE t.\"id\" = $1 RETURNING t.*) INSERT INTO "
          "\"acme\".\"or\"\"ders\" "
          "(\"id\", \"note\", \"doc\") OVERRIDING SYSTEM VALUE SELECT $2::integer, $3::text, old.\"doc\" FROM old");
    CHECK(moved->values.size() == 3);
    // Not part of the key: nobody says whether it changed.
    auto other = orders();
    other.columns[1].identity_always = true;
    CHECK(
        update_statement(other, {1, OldRow::none, {}, {text("7"), text("9"), toast}})->sql.starts_with("WITH old AS"));
}

TEST_CASE("what doesn't fit the table is refused, never guessed") {
    const auto table = orders();
    CHECK_FALSE(insert_statement(table, {1, {text("7")}}).has_value());
    CHECK_FALSE(insert_statement(table, {1, {text("7"), toast, text("")}}).has_value());
    CHECK_FALSE(insert_statement(table, {1, {{ValueKind::binary, "x"}, text("a"), text("")}}).has_value());
    CHECK_FALSE(update_statement(table, {1, OldRow::none, {}, {null_value, text("a"), text("")}}).has_value());
    CHECK_FALSE(update_statement(keyless(), {1, OldRow::none, {}, {text("1"), text("a"), text("")}}).has_value());
    CHECK_FALSE(delete_statement(table, {1, OldRow::key, {null_value, null_value, null_value}}).has_value());
    CHECK_FALSE(delete_statement(keyless(), {1, OldRow::full, {text("1")}}).has_value());
}

TEST_CASE("truncate with its options") {
    const auto a = orders();
    auto b = orders();
    b.name = "b";
    CHECK(truncate_statement({&a, &b}, {{1, 2}, false, false}) ==
          "TRUNCATE ONLY \"acme\".\"or\"\"ders\", ONLY \"acme\".\"b\"");
    CHECK(truncate_statement({&b}, {{2}, true, true}) == "TRUNCATE ONLY \"acme\".\"b\" RESTART IDENTITY CASCADE");
}

TEST_CASE("the stream's description of a table is compared field by field") {
    const auto table = orders();
    const Relation same{
        1, "acme", "or\"ders", 'd', {{true, "id", 23, -1}, {false, "note", 25, -1}, {false, "doc", 114, -1}}};
    CHECK(same_definition(table, same));
    auto full = same;
    full.replica_identity = 'f';
    for (auto& column : full.columns) column.key = true;
    CHECK(same_definition(keyless(), full));
    const auto differs = [&](auto change) {
        auto other = same;
        change(other);
        CHECK_FALSE(same_definition(table, other));
    };
    differs([](Relation& r) { r.name = "x"; });
    differs([](Relation& r) { r.schema = "x"; });
    differs([](Relation& r) { r.replica_identity = 'f'; });
    differs([](Relation& r) { r.columns.pop_back(); });
    differs([](Relation& r) { r.columns[1].name = "x"; });
    differs([](Relation& r) { r.columns[1].type = 26; });
    differs([](Relation& r) { r.columns[1].type_modifier = 14; });
    differs([](Relation& r) { r.columns[1].key = true; });
}

TEST_CASE("in tables that others have rows in, no statement but an insert can reach a row of theirs") {
    const std::string owner = " AND t.\"tenant\" = '42'::text";
    for (auto table : {orders(), keyless()}) {
        table.into_shared = true;
        table.row_filter = "t.\"tenant\" = '42'::text";
        const auto kind = table.key.empty() ? OldRow::full : OldRow::key;
        const Tuple row{text("7"), text("n"), text("{}")};
        const Tuple old{text("8"), text("n"), text("{}")};
        for (const auto& statement : {update_statement(table, {1, kind, old, row}), delete_statement(table, {1, kind, old})}) {
            REQUIRE(statement.has_value());
            CHECK_MESSAGE(statement->sql.ends_with(owner), statement->sql);
        }
        table.columns[0].identity_always = true;
        const auto replaced = update_statement(table, {1, kind, old, row});
        REQUIRE(replaced.has_value());
        CHECK_MESSAGE(replaced->sql.find(owner + " RETURNING t.*") != std::string::npos, replaced->sql);
        CHECK(empty_statement(table) == "DELETE FROM ONLY " + table.qualified_name() + " AS t WHERE t.\"tenant\" = '42'::text");
    }
}
