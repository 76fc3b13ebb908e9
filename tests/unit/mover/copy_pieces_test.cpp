// How a copy is cut into pieces, what each of them saw, and which changes of the stream are therefore not to be applied again.
#include <doctest/doctest.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "admin/mover/copy_pieces.hpp"
#include "admin/mover/copy_strides.hpp"
#include "admin/mover/piece_map.hpp"
#include "admin/mover/row_snapshot.hpp"

using namespace pgporter;

namespace {

constexpr std::uint32_t int8_oid = 20;
constexpr std::uint32_t text_oid = 25;

SourceTable table_of(std::string name, std::uint64_t pages, bool partitioned = false) {
    SourceTable table;
    table.oid = static_cast<std::uint32_t>(1'000 + pages);
    table.schema = "acme";
    table.name = std::move(name);
    table.pages = pages;
    table.partitioned = partitioned;
    table.columns.resize(2);
    table.columns[0].name = "id";
    table.columns[0].type_oid = int8_oid;
    table.columns[0].key = true;
    table.columns[1].name = "text";
    table.columns[1].type_oid = text_oid;
    table.key = {0};
    table.key_leader = 0;
    return table;
}

RowSnapshot snapshot(std::string_view text) {
    const auto read = RowSnapshot::parse(text);
    REQUIRE(read.has_value());
    return *read;
}

pgoutput::Value text(std::string_view bytes) {
    return {pgoutput::ValueKind::text, bytes};
}

pgoutput::Tuple row(std::string_view id) {
    return {text(id), text("x")};
}

pgoutput::Message insert(std::string_view id) {
    return pgoutput::Insert{1, row(id)};
}

pgoutput::Message update(std::string_view id) {
    return pgoutput::Update{1, pgoutput::OldRow::none, {}, row(id)};
}

pgoutput::Message move(std::string_view from, std::string_view to) {
    return pgoutput::Update{1, pgoutput::OldRow::key, {text(from), {}}, row(to)};
}

pgoutput::Message removal(std::string_view id) {
    return pgoutput::Delete{1, pgoutput::OldRow::key, {text(id), {}}};
}

}  // namespace

TEST_CASE("a snapshot sees what had committed, and nothing else") {
    const auto seen = snapshot("100:110:103,105");
    CHECK(seen.sees(3));
    CHECK(seen.sees(99));
    CHECK(seen.sees(104));
    CHECK(seen.sees(109));
    CHECK_FALSE(seen.sees(103));
    CHECK_FALSE(seen.sees(105));
    CHECK_FALSE(seen.sees(110));
    CHECK_FALSE(seen.sees(5'000'000'000));
    CHECK(snapshot("7:7:").sees(6));
    CHECK_FALSE(snapshot("7:7:").sees(7));
    // As slots have them after transactions that were rolled back.
    CHECK(snapshot("9:7:").sees(8));
    CHECK_FALSE(snapshot("9:7:").sees(9));
    CHECK_FALSE(snapshot("9:9:").lacks_of(snapshot("9:7:")).has_value());
}

TEST_CASE("what isn't a snapshot isn't read as one") {
    for (const auto* text : {"", "1", "1:2", "1:2:x", "2:1:2", "1:5:9", "1:5:0", "1:5:2,", "1:5:2;3", "-1:5:", "1:5: 2", "99999999999999999999:5:"}) {
        CAPTURE(text);
        const auto read = RowSnapshot::parse(text);
        CHECK((!read.has_value() || std::string_view(text) == "1:5:2,"));  // a comma at the end hides nothing
    }
}

TEST_CASE("the stream's half of a transaction's number is completed from the snapshot's") {
    constexpr std::uint64_t epoch = std::uint64_t{3} << 32U;
    const auto early = snapshot(std::to_string(epoch + 5) + ":" + std::to_string(epoch + 10) + ":" + std::to_string(epoch + 7));
    CHECK(early.sees_wire(6));
    CHECK_FALSE(early.sees_wire(7));
    CHECK_FALSE(early.sees_wire(10));
    CHECK(early.sees_wire(0xFFFF'FFF0));  // of the epoch before
    const auto late = snapshot(std::to_string(epoch - 5) + ":" + std::to_string(epoch - 2) + ":");
    CHECK(late.sees_wire(0xFFFF'FFFD));
    CHECK_FALSE(late.sees_wire(0xFFFF'FFFE));
    CHECK_FALSE(late.sees_wire(12));  // of the next epoch
    CHECK(snapshot("10:10:").sees_wire(9));
    CHECK_FALSE(snapshot("10:10:").sees_wire(11));
}

TEST_CASE("a snapshot must have seen what the slot has: who has committed but isn't visible yet is found") {
    const auto slot = snapshot("100:110:103");
    CHECK_FALSE(snapshot("103:120:103,111").lacks_of(slot).has_value());
    CHECK_FALSE(snapshot("115:120:").lacks_of(slot).has_value());
    CHECK(snapshot("103:120:103,105").lacks_of(slot) == 105);
    CHECK(snapshot("90:105:").lacks_of(slot).has_value());
}

TEST_CASE("parts cover every page of every table once, the last without an end, largest first") {
    const std::vector<SourceTable> tables{table_of("small", 0), table_of("exact", 20), table_of("large", 25), table_of("parent", 0, true)};
    const auto pieces = plan_pieces(tables, {}, {.part_pages_max = 10, .piece_pages_max = 1'000, .jobs = 4});
    std::uint64_t covered = 0;
    std::size_t open = 0;
    std::uint32_t number = 0;
    for (const auto& piece : pieces) {
        CHECK(piece.number == ++number);
        for (const auto& part : parts_of(piece, 10, true)) {
            CHECK(part.frozen == !piece.in_parts);
            CHECK_FALSE(part.table->partitioned);
            covered += (part.end_page == 0 ? part.table->pages : part.end_page) - part.first_page;
            open += part.end_page == 0 ? 1 : 0;
        }
    }
    CHECK(covered == 45);
    CHECK(open == 3);
    CHECK(pieces.front().tables.front() == &tables[2]);
    CHECK(pieces.front().in_parts);
    CHECK(pieces.back().tables.front() == &tables[0]);
    CHECK_FALSE(pieces.back().in_parts);
}

TEST_CASE("a table that doesn't take longer than the others together is left in one part") {
    const std::vector<SourceTable> tables{table_of("a", 100), table_of("b", 101)};
    for (const auto& piece : plan_pieces(tables, {}, {.part_pages_max = 10, .piece_pages_max = 1'000, .jobs = 2})) CHECK_FALSE(piece.in_parts);
    for (const auto& piece : plan_pieces(tables, {}, {.part_pages_max = 10, .piece_pages_max = 1'000, .jobs = 4})) CHECK(piece.in_parts);
}

TEST_CASE("large values count with their rows") {
    std::vector<SourceTable> tables{table_of("documents", 30), table_of("plain", 100)};
    tables[0].toast_pages = 970;
    SUBCASE("a table of many goes in parts, each with its share of them") {
        const auto pieces = plan_pieces(tables, {}, {.part_pages_max = 100, .piece_pages_max = 10'000, .jobs = 4});
        REQUIRE(pieces.size() == 2);
        CHECK(pieces[0].tables.front() == &tables[0]);
        CHECK(pieces[0].in_parts);
        const auto parts = parts_of(pieces[0], 100, true);
        REQUIRE(parts.size() == 10);
        for (std::size_t i = 0; i < parts.size(); ++i) {
            CHECK(parts[i].first_page == i * 3);
            CHECK(parts[i].end_page == (i + 1 < parts.size() ? (i + 1) * 3 : 0));
        }
    }
    SUBCASE("and by ranges where it can") {
        const PieceSizes sizes{.part_pages_max = 100, .piece_pages_max = 400};
        CHECK(ranges_of(tables[0], sizes) == 10);
        CHECK(ranges_of(tables[1], sizes) == 1);
    }
    SUBCASE("rows of one page can't be told apart by pages") {
        tables[0].pages = 1;
        const auto pieces = plan_pieces(tables, {}, {.part_pages_max = 100, .piece_pages_max = 10'000, .jobs = 4});
        CHECK(pieces[0].tables == std::vector<const SourceTable*>{&tables[0]});
        CHECK_FALSE(pieces[0].in_parts);
        CHECK(parts_of(pieces[0], 100, true).size() == 1);
    }
}

TEST_CASE("small tables share a piece, but no job has all of them") {
    std::vector<SourceTable> tables;
    for (int i = 0; i < 1'000; ++i) tables.push_back(table_of("t" + std::to_string(i), 3));
    const auto pieces = plan_pieces(tables, {}, {.part_pages_max = 8'192, .piece_pages_max = 131'072, .jobs = 4});
    CHECK(pieces.size() >= 16);
    CHECK(pieces.size() <= 20);
    std::size_t all = 0;
    for (const auto& piece : pieces) all += piece.tables.size();
    CHECK(all == 1'000);
}

TEST_CASE("a large table with an integer key is cut by ranges of it, without a gap and open at both ends") {
    const std::vector<SourceTable> tables{table_of("large", 1'000)};
    const PieceSizes sizes{.part_pages_max = 50, .piece_pages_max = 400};
    CHECK(ranges_of(tables[0], sizes) == 10);
    std::vector<std::int64_t> histogram;
    for (std::int64_t i = 0; i <= 100; ++i) histogram.push_back(i * 10 - 200);
    SplitBounds bounds;
    bounds[&tables[0]] = bounds_from(histogram, ranges_of(tables[0], sizes));
    CHECK(bounds[&tables[0]] == std::vector<std::int64_t>{-100, 0, 100, 200, 300, 400, 500, 600, 700});
    const auto pieces = plan_pieces(tables, bounds, sizes);
    REQUIRE(pieces.size() == 10);
    for (std::int64_t key : {std::int64_t{INT64_MIN}, std::int64_t{-100}, std::int64_t{-99}, std::int64_t{0}, std::int64_t{701}, std::int64_t{INT64_MAX}}) {
        std::size_t holding = 0;
        for (const auto& piece : pieces) holding += piece.range.contains(key) ? 1 : 0;
        CHECK(holding == 1);
    }
    CHECK_FALSE(pieces.front().range.above.has_value());
    CHECK_FALSE(pieces.back().range.up_to.has_value());
    CHECK_FALSE(pieces.front().in_parts);
    CHECK_FALSE(parts_of(pieces.front(), 50, true).front().frozen);
    CHECK(copy_out_statement(parts_of(pieces[1], 50, true).front()) ==
          "COPY (SELECT \"id\", \"text\" FROM ONLY \"acme\".\"large\" AS t WHERE \"id\" > -100 AND \"id\" <= 0) TO STDOUT (FORMAT binary)");
}

TEST_CASE("bounds are as many as the histogram can tell apart") {
    CHECK(bounds_from({}, 4).empty());
    CHECK(bounds_from({5}, 4).empty());
    CHECK(bounds_from({1, 2}, 10).size() <= 2);
    CHECK(bounds_from({INT64_MIN, INT64_MAX}, 2).size() == 1);
    CHECK(bounds_from({0, 100}, 4) == std::vector<std::int64_t>{25, 50, 75});
}

TEST_CASE("tables that can't be split by their key") {
    auto table = table_of("t", 1'000);
    CHECK(split_column(table) == 0);
    table.columns[0].type_oid = text_oid;
    CHECK_FALSE(split_column(table).has_value());
    table.columns[0].type_oid = int8_oid;
    table.tenant_column = 1;
    CHECK_FALSE(split_column(table).has_value());
    table.tenant_column.reset();
    table.key_leader.reset();
    CHECK_FALSE(split_column(table).has_value());
}

TEST_CASE("copy statements: pages by ctid, binary unless a column forbids it") {
    auto table = table_of("t", 100);
    table.columns.resize(1);
    CHECK(copy_out_statement({&table, {}, 0, 0}) == "COPY \"acme\".\"t\" (\"id\") TO STDOUT (FORMAT binary)");
    CHECK(copy_out_statement({&table, {}, 10, 20}) ==
          "COPY (SELECT \"id\" FROM ONLY \"acme\".\"t\" AS t WHERE ctid >= '(10,0)' AND ctid < '(20,0)') TO STDOUT (FORMAT "
          "binary)");
    CHECK(copy_out_statement({&table, {}, 0, 20}) ==
          "COPY (SELECT \"id\" FROM ONLY \"acme\".\"t\" AS t WHERE ctid < '(20,0)') TO STDOUT (FORMAT binary)");
    table.columns[0].text_only = true;
    CHECK(copy_in_statement({&table, {}, 0, 0}) == "COPY \"acme\".\"t\" (\"id\") FROM STDIN");
    CHECK(copy_in_statement({&table, {}, 0, 0, true}) == "COPY \"acme\".\"t\" (\"id\") FROM STDIN (FREEZE)");
    CHECK(lock_statement({1, {&table, &table}, {}}) == "LOCK TABLE ONLY \"acme\".\"t\", ONLY \"acme\".\"t\" IN ACCESS SHARE MODE");
}

TEST_CASE("a change that a piece has seen isn't applied again") {
    const auto table = table_of("t", 1);
    PieceMap pieces;
    pieces.add({1, {&table}, {}}, snapshot("100:110:103"));
    for (const auto& change : {insert("5"), update("5"), move("5", "6"), removal("5")}) {
        CHECK(pieces.remainder(table, change, 99) == Remainder::nothing);
        CHECK(pieces.remainder(table, change, 103) == Remainder::all);
        CHECK(pieces.remainder(table, change, 110) == Remainder::all);
    }
    const auto other = table_of("other", 2);
    CHECK(pieces.remainder(other, insert("5"), 99) == Remainder::unknown);
    CHECK(pieces.remainder(table, pgoutput::Begin{}, 99) == Remainder::unknown);
}

TEST_CASE("of a table in pieces the piece of the row counts, and a row that moves between two is in both, in one, or in none") {
    const auto table = table_of("t", 1);
    PieceMap pieces;
    // Not in their order: that is how they are sorted when they are of different sizes.
    pieces.add({2, {&table}, {.above = 0, .up_to = 100}}, snapshot("120:120:"));
    pieces.add({1, {&table}, {.up_to = 0}}, snapshot("100:100:"));
    pieces.add({3, {&table}, {.above = 100}}, snapshot("140:140:"));
    for (const auto* low : {"-5", "0"}) CHECK(pieces.remainder(table, insert(low), 110) == Remainder::all);
    for (const auto* middle : {"1", "100"}) CHECK(pieces.remainder(table, update(middle), 110) == Remainder::nothing);
    for (const auto* middle : {"1", "100"}) CHECK(pieces.remainder(table, removal(middle), 130) == Remainder::all);
    CHECK(pieces.remainder(table, removal("101"), 130) == Remainder::nothing);

    CHECK(pieces.remainder(table, move("-5", "50"), 90) == Remainder::nothing);
    CHECK(pieces.remainder(table, move("-5", "50"), 110) == Remainder::removal);
    CHECK(pieces.remainder(table, move("50", "-5"), 110) == Remainder::arrival);
    CHECK(pieces.remainder(table, move("50", "-5"), 120) == Remainder::all);
    CHECK(pieces.remainder(table, move("20", "50"), 110) == Remainder::nothing);
    CHECK(pieces.remainder(table, insert("many"), 110) == Remainder::unknown);
    CHECK(pieces.remainder(table, pgoutput::Insert{1, {{pgoutput::ValueKind::null, {}}, {}}}, 110) == Remainder::unknown);
}

TEST_CASE("a truncation empties the pieces that were copied before it") {
    const auto table = table_of("t", 1);
    PieceMap pieces;
    pieces.add({1, {&table}, {.up_to = 0}}, snapshot("100:100:"));
    pieces.add({2, {&table}, {.above = 0}}, snapshot("120:120:"));
    CHECK(pieces.to_empty(table, 90).empty());
    REQUIRE(pieces.to_empty(table, 110).size() == 1);
    CHECK(pieces.to_empty(table, 110).front().up_to == 0);
    CHECK(range_condition(table, pieces.to_empty(table, 110).front()) == "\"id\" <= 0");
    REQUIRE(pieces.to_empty(table, 130).size() == 1);
    CHECK(pieces.to_empty(table, 130).front().is_all());
}

namespace {

using Keys = std::multiset<std::int64_t>;

struct ReadStrides {
    std::vector<KeyRange> ranges;
    std::uint64_t rows = 0;
    std::uint64_t most = 0;
};

Keys::const_iterator end_of(const Keys& keys, const KeyRange& range) {
    return range.up_to ? keys.upper_bound(*range.up_to) : keys.end();
}

Keys::const_iterator begin_of(const Keys& keys, const KeyRange& range) {
    return range.above ? keys.upper_bound(*range.above) : keys.begin();
}

// As a copy reads all strides of a part from a table with these keys, each with a row of so many bytes.
ReadStrides read_keys(CopyStrides& strides, const Keys& keys, std::uint64_t row_bytes, StrideLength length) {
    ReadStrides read;
    for (;;) {
        std::optional<std::int64_t> last_key;
        if (const auto wanted = strides.rows_wanted(length)) {
            auto at = begin_of(keys, strides.left().range);
            const auto left = std::distance(at, end_of(keys, strides.left().range));
            const auto rows = static_cast<std::ptrdiff_t>(*wanted);
            if (left >= rows) last_key = *std::next(at, rows - 1);
        }
        const auto stride = strides.next(length, last_key);
        if (!stride) return read;
        const auto rows = static_cast<std::uint64_t>(std::distance(begin_of(keys, stride->range), end_of(keys, stride->range)));
        strides.note(rows, rows * row_bytes);
        read.ranges.push_back(stride->range);
        read.rows += rows;
        read.most = std::max(read.most, rows);
        REQUIRE(read.ranges.size() < 10'000);
    }
}

}  // namespace

TEST_CASE("a slowed copy reads a table in short strides: every page once, the last one to wherever the table ends") {
    const auto table = table_of("events", 100);
    CopyStrides strides({&table, {}, 0, 0, true});
    std::uint64_t next_page = 0;
    int count = 0;
    while (const auto stride = strides.next(StrideLength::small)) {
        CHECK(stride->first_page == next_page);
        CHECK(stride->frozen);
        next_page = stride->end_page;
        ++count;
    }
    CHECK(next_page == 0);  // without an end
    CHECK(count == 7);
    CHECK_FALSE(strides.next(StrideLength::all));
}

TEST_CASE("strides of a part end where the part ends, and are long when nobody is disturbed") {
    const auto table = table_of("events", 20'000);
    CopyStrides strides({&table, {}, 8'192, 16'384, false});
    auto stride = strides.next(StrideLength::small);
    REQUIRE(stride);
    CHECK(stride->first_page == 8'192);
    CHECK(stride->end_page == 8'192 + CopyStrides::small_bytes / 8'192);
    stride = strides.next(StrideLength::moderate);
    REQUIRE(stride);
    CHECK(stride->end_page - stride->first_page == CopyStrides::moderate_bytes / 8'192);
    const auto end = stride->end_page;
    stride = strides.next(StrideLength::all);
    REQUIRE(stride);
    CHECK(stride->first_page == end);
    CHECK(stride->end_page == 16'384);
    CHECK_FALSE(strides.next(StrideLength::small));
}

TEST_CASE("strides by keys have about the wanted size, whatever lies between the keys; each key is in one of them") {
    const auto table = table_of("events", 200'000);
    for (const std::int64_t gap : {1, 1'000, 10'000'000}) {
        Keys keys;
        for (std::int64_t i = 1; i <= 100'000; ++i) keys.insert(100 + i * gap);
        CopyStrides strides({&table, {100, 100 + 100'000 * gap}, 0, 0, false});
        const auto read = read_keys(strides, keys, 200, StrideLength::small);
        CHECK(read.rows == 100'000);
        CHECK(read.ranges.size() > 100);  // 20 MB
        CHECK(read.ranges.size() < 400);
        CHECK(read.ranges.front().above == 100);
        CHECK(read.ranges.back().up_to == 100 + 100'000 * gap);
        for (std::size_t i = 1; i < read.ranges.size(); ++i) CHECK(read.ranges[i].above == read.ranges[i - 1].up_to);
    }
}

TEST_CASE("neither what lies behind a gap between keys nor many rows of few keys are read in one stride") {
    const auto table = table_of("events", 200'000);
    Keys keys;
    for (std::int64_t i = 0; i < 5'000; ++i) keys.insert({-4'000'000'000'000'000'000 + i, i * 1'000'000, 4'000'000'000'000'000'000 + i / 50});
    CopyStrides strides({&table, {-4'100'000'000'000'000'000, std::nullopt}, 0, 0, false});
    const auto read = read_keys(strides, keys, 200, StrideLength::small);
    CHECK(read.rows == keys.size());
    CHECK(read.most * 200 <= 2 * CopyStrides::small_bytes);
    CHECK(read.ranges.size() < 60);
}

TEST_CASE("rows with much TOAST are read in strides of fewer pages, and of fewer rows to begin with") {
    auto table = table_of("documents", 1'000);
    table.stored_bytes = 1'000 * std::uint64_t{8'192} * 32;
    table.rows_estimate = 100'000;
    CopyStrides pages({&table, {}, 0, 0, false});
    CHECK(pages.next(StrideLength::small)->end_page == 1);
    CHECK(pages.next(StrideLength::moderate)->end_page == 1 + CopyStrides::moderate_bytes / 8'192 / 32);
    CopyStrides rows({&table, {0, 100'000}, 0, 0, false});
    CHECK(rows.rows_wanted(StrideLength::small) == 50);
    rows.note(50, 50 * std::uint64_t{1'000'000});
    CHECK(rows.rows_wanted(StrideLength::small) == 1);
    rows.note(1, 100);
    CHECK(rows.rows_wanted(StrideLength::small) == 4);  // what comes next may be large again
}

TEST_CASE("strides by keys reach the ends of the type, and stay open where the part is open") {
    const auto table = table_of("events", 200'000);
    CopyStrides strides({&table, {std::nullopt, std::nullopt}, 0, 0, false});
    CHECK_FALSE(strides.rows_wanted(StrideLength::small));  // all of the table: by pages
    Keys keys;
    for (std::int64_t i = 0; i < 5'000; ++i) keys.insert({INT64_MIN + i, i, INT64_MAX - i});
    CopyStrides first({&table, {std::nullopt, 4'500}, 0, 0, false});
    auto read = read_keys(first, keys, 200, StrideLength::small);
    CHECK(read.rows == 9'501);
    CHECK(read.ranges.size() > 10);
    CHECK_FALSE(read.ranges.front().above);
    CHECK(read.ranges.back().up_to == 4'500);
    CopyStrides last({&table, {4'500, std::nullopt}, 0, 0, false});
    read = read_keys(last, keys, 200, StrideLength::small);
    CHECK(read.rows == 5'499);
    CHECK_FALSE(read.ranges.back().up_to);
    CopyStrides empty({&table, {7'000, 9'000}, 0, 0, false});
    CHECK(read_keys(empty, keys, 1, StrideLength::small).ranges.size() == 1);
    CopyStrides at_once({&table, {7, 4'500}, 0, 0, false});
    CHECK_FALSE(at_once.rows_wanted(StrideLength::all));
    CHECK(read_keys(at_once, keys, 200, StrideLength::all).ranges.size() == 1);
}

TEST_CASE("rows that a filter selects are read at once") {
    auto table = table_of("events", 200'000);
    table.row_filter = "t.tenant = 7";
    CopyStrides strides({&table, {}, 0, 0, false});
    const auto stride = strides.next(StrideLength::small);
    REQUIRE(stride);
    CHECK(stride->end_page == 0);
    CHECK_FALSE(strides.next(StrideLength::small));
}
