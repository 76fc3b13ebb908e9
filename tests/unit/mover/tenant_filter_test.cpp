#include "admin/mover/tenant_filter.hpp"

#include <doctest/doctest.h>

using namespace pgporter;
using namespace pgporter::pgoutput;

namespace {

// Columns id, tenant_id, body; the key is the id, or both, or (full) none.
SourceTable table_with(bool tenant_in_key, bool full = false) {
    SourceTable table;
    table.oid = 7;
    table.schema = "public";
    table.name = "docs";
    table.replica_identity = full ? 'f' : 'd';
    for (const auto* name : {"id", "tenant_id", "body"}) {
        TableColumn column;
        column.name = name;
        column.type = "text";
        table.columns.push_back(column);
    }
    if (!full) {
        table.columns[0].key = true;
        table.key.push_back(0);
        table.columns[1].key = tenant_in_key;
        if (tenant_in_key) table.key.push_back(1);
    }
    table.tenant_column = 1;
    table.tenant_value = "42";
    return table;
}

Tuple row(std::string_view id, std::string_view tenant, std::string_view body = "b") {
    const auto value = [](std::string_view text) {
        if (text == "-") return Value{};
        if (text == "toast") return Value{ValueKind::unchanged_toast, {}};
        return Value{ValueKind::text, text};
    };
    return {value(id), value(tenant), value(body)};
}

Fate fate(const SourceTable& table, const Message& change) {
    const auto filtered = filter_change(table, change);
    REQUIRE(filtered.has_value());
    return filtered->fate;
}

}  // namespace

TEST_CASE("inserts are the tenant's by their value, nobody's without one") {
    const auto table = table_with(false);
    CHECK(fate(table, Insert{7, row("1", "42")}) == Fate::insert);
    CHECK(fate(table, Insert{7, row("1", "420")}) == Fate::skip);
    CHECK(fate(table, Insert{7, row("1", "-")}) == Fate::skip);
}

TEST_CASE("a key without the tenant leaves open whose a row was") {
    const auto table = table_with(false);
    CHECK(fate(table, Delete{7, OldRow::key, row("1", "-", "-")}) == Fate::remove_if_there);
    CHECK(fate(table, Update{7, OldRow::none, {}, row("1", "42")}) == Fate::update_or_missing);
    CHECK(fate(table, Update{7, OldRow::none, {}, row("1", "42", "toast")}) == Fate::update_or_missing);
    CHECK(fate(table, Update{7, OldRow::key, row("1", "-", "-"), row("2", "42")}) == Fate::update_or_missing);
    const auto left = filter_change(table, Update{7, OldRow::none, {}, row("1", "43")});
    REQUIRE(left.has_value());
    CHECK(left->fate == Fate::remove_if_there);
    CHECK(left->removal.old_row[0].bytes == "1");
    const auto left_with_key = filter_change(table, Update{7, OldRow::key, row("1", "-", "-"), row("2", "43")});
    REQUIRE(left_with_key.has_value());
    CHECK(left_with_key->fate == Fate::remove_if_there);
    CHECK(left_with_key->removal.old_row[0].bytes == "1");
}

TEST_CASE("a key with the tenant says whose a row was") {
    const auto table = table_with(true);
    CHECK(fate(table, Delete{7, OldRow::key, row("1", "42", "-")}) == Fate::remove);
    CHECK(fate(table, Delete{7, OldRow::key, row("1", "43", "-")}) == Fate::skip);
    CHECK(fate(table, Update{7, OldRow::none, {}, row("1", "42", "toast")}) == Fate::update);
    CHECK(fate(table, Update{7, OldRow::none, {}, row("1", "43")}) == Fate::skip);
    CHECK(fate(table, Update{7, OldRow::key, row("1", "42", "-"), row("1", "43")}) == Fate::remove);
    CHECK(fate(table, Update{7, OldRow::key, row("1", "43", "-"), row("1", "42")}) == Fate::insert);
    CHECK(fate(table, Update{7, OldRow::key, row("1", "43", "-"), row("1", "42", "toast")}) == Fate::fetch);
    CHECK(fate(table, Update{7, OldRow::key, row("1", "43", "-"), row("1", "44")}) == Fate::skip);
    CHECK(fate(table, Update{7, OldRow::key, row("1", "42", "-"), row("2", "42", "toast")}) == Fate::update);
}

TEST_CASE("a whole old row completes one that comes in") {
    const auto table = table_with(false, true);
    CHECK(fate(table, Delete{7, OldRow::full, row("1", "42")}) == Fate::remove);
    CHECK(fate(table, Delete{7, OldRow::full, row("1", "43")}) == Fate::skip);
    const auto in = filter_change(table, Update{7, OldRow::full, row("1", "43", "old"), row("1", "42", "toast")});
    REQUIRE(in.has_value());
    CHECK(in->fate == Fate::insert);
    CHECK(in->insert.row[2].bytes == "old");
    CHECK(fate(table, Update{7, OldRow::full, row("1", "42"), row("1", "42", "toast")}) == Fate::update);
    CHECK(fate(table, Update{7, OldRow::full, row("1", "42"), row("1", "-")}) == Fate::remove);
}

TEST_CASE("what doesn't fit the table isn't guessed at") {
    const auto table = table_with(false);
    CHECK_FALSE(filter_change(table, Insert{7, {Value{ValueKind::text, "1"}}}).has_value());
    CHECK_FALSE(filter_change(table, Update{7, OldRow::none, {}, row("1", "toast")}).has_value());
    CHECK_FALSE(filter_change(table, Delete{7, OldRow::key, {}}).has_value());
}
