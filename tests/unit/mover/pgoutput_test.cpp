#include "admin/mover/pgoutput.hpp"

#include <doctest/doctest.h>

#include <deque>

using namespace pgporter;
using namespace pgporter::pgoutput;

namespace {

// Writes messages as the server does.
class Bytes {
  public:
    Bytes& letter(char c) { return number(static_cast<unsigned char>(c), 1); }
    Bytes& number(std::uint64_t value, int length) {
        for (int shift = 8 * (length - 1); shift >= 0; shift -= 8)
            bytes_ += static_cast<char>((value >> shift) & 0xFFU);
        return *this;
    }
    Bytes& text(std::string_view value) {
        bytes_ += value;
        bytes_ += '\0';
        return *this;
    }
    Bytes& value(std::string_view content) {
        letter('t').number(content.size(), 4);
        bytes_ += content;
        return *this;
    }
    [[nodiscard]] const std::string& bytes() const { return bytes_; }

  private:
    std::string bytes_;
};

std::string begin() {
    return Bytes().letter('B').number(0x1'00000028, 8).number(7, 8).number(741, 4).bytes();
}
std::string commit() {
    return Bytes().letter('C').number(0, 1).number(0x28, 8).number(0x58, 8).number(7, 8).bytes();
}
std::string origin() {
    return Bytes().letter('O').number(9, 8).text("elsewhere").bytes();
}
std::string relation() {
    return Bytes()
        .letter('R')
        .number(16384, 4)
        .text("acme")
        .text("orders")
        .letter('d')
        .number(2, 2)
        .number(1, 1)
        .text("id")
        .number(23, 4)
        .number(0xFFFFFFFF, 4)
        .number(0, 1)
        .text("note")
        .number(1043, 4)
        .number(44, 4)
        .bytes();
}
std::string type() {
    return Bytes().letter('Y').number(16390, 4).text("acme").text("mood").bytes();
}
std::string insert() {
    return Bytes().letter('I').number(16384, 4).letter('N').number(2, 2).value("1").letter('n').bytes();
}
std::string update() {
    return Bytes().letter('U').number(16384, 4).letter('N').number(2, 2).value("1").letter('u').bytes();
}
std::string update_key() {
    return Bytes()
        .letter('U')
        .number(16384, 4)
        .letter('K')
        .number(2, 2)
        .value("1")
        .letter('n')
        .letter('N')
        .number(2, 2)
        .value("2")
        .value("x")
        .bytes();
}
std::string update_full() {
    return Bytes()
        .letter('U')
        .number(16384, 4)
        .letter('O')
        .number(2, 2)
        .value("1")
        .value("x")
        .letter('N')
        .number(2, 2)
        .value("1")
        .value("")
        .bytes();
}
std::string delete_key() {
    return Bytes().letter('D').number(16384, 4).letter('K').number(2, 2).value("1").letter('n').bytes();
}
std::string truncate() {
    return Bytes().letter('T').number(2, 4).number(3, 1).number(16384, 4).number(16385, 4).bytes();
}
std::string message() {
    return Bytes().letter('M').number(1, 1).number(0x99, 8).text("pgporter_move_7").number(7, 4).bytes() + "fence:1";
}

std::vector<std::string> all() {
    return {begin(),  commit(),     origin(),      relation(),   type(),     insert(),
            update(), update_key(), update_full(), delete_key(), truncate(), message()};
}

// A message borrows from its bytes: they are kept.
template <class T>
T decoded(std::string bytes) {
    static std::deque<std::string> kept;
    const auto result = decode(kept.emplace_back(std::move(bytes)));
    REQUIRE(result.has_value());
    REQUIRE(std::holds_alternative<T>(*result));
    return std::get<T>(*result);
}

}  // namespace

TEST_CASE("begin and commit carry their positions") {
    const auto first = decoded<Begin>(begin());
    CHECK(to_text(first.final_lsn) == "1/28");
    CHECK(first.xid == 741);
    const auto last = decoded<Commit>(commit());
    CHECK(last.commit_lsn == Lsn{0x28});
    CHECK(last.end_lsn == Lsn{0x58});
}

TEST_CASE("a relation names its columns, types and key") {
    const auto found = decoded<Relation>(relation());
    CHECK(found.schema == "acme");
    CHECK(found.name == "orders");
    CHECK(found.replica_identity == 'd');
    REQUIRE(found.columns.size() == 2);
    CHECK(found.columns[0] == Column{true, "id", 23, -1});
    CHECK(found.columns[1] == Column{false, "note", 1043, 44});
}

TEST_CASE("values: text, null, unchanged toast, empty") {
    const auto inserted = decoded<Insert>(insert());
    REQUIRE(inserted.row.size() == 2);
    CHECK(inserted.row[0].bytes == "1");
    CHECK(inserted.row[1].kind == ValueKind::null);
    CHECK(decoded<Update>(update()).row[1].kind == ValueKind::unchanged_toast);
    const auto full = decoded<Update>(update_full());
    CHECK(full.old_kind == OldRow::full);
    CHECK(full.row[1].kind == ValueKind::text);
    CHECK(full.row[1].bytes.empty());
}

TEST_CASE("updates tell what identifies the old row") {
    CHECK(decoded<Update>(update()).old_kind == OldRow::none);
    const auto changed = decoded<Update>(update_key());
    CHECK(changed.old_kind == OldRow::key);
    CHECK(changed.old_row[0].bytes == "1");
    CHECK(changed.row[0].bytes == "2");
    CHECK(decoded<Delete>(delete_key()).old_kind == OldRow::key);
}

TEST_CASE("truncate has its tables and both options; a logical message its content") {
    const auto truncated = decoded<Truncate>(truncate());
    CHECK(truncated.relations == std::vector<RelationId>{16384, 16385});
    CHECK(truncated.cascade);
    CHECK(truncated.restart_identity);
    const auto said = decoded<LogicalMessage>(message());
    CHECK(said.transactional);
    CHECK(said.prefix == "pgporter_move_7");
    CHECK(said.content == "fence:1");
}

TEST_CASE("a message cut short anywhere, or with a byte too many, is refused") {
    for (const auto& whole : all()) {
        REQUIRE(decode(whole).has_value());
        for (std::size_t length = 0; length < whole.size(); ++length)
            CHECK_FALSE(decode(whole.substr(0, length)).has_value());
        CHECK_FALSE(decode(whole + "x").has_value());
    }
}

TEST_CASE("lengths that lie are refused, whatever they claim") {
    for (const auto& whole : all()) {
        for (std::size_t at = 1; at < whole.size(); ++at) {
            auto damaged = whole;
            damaged[at] = '\xFF';
            const auto result =
                decode(damaged);  // may be another valid message, must not crash or allocate without bound
            if (result && std::holds_alternative<Insert>(*result))
                CHECK(std::get<Insert>(*result).row.size() <= damaged.size());
        }
    }
    CHECK_FALSE(decode("Z").has_value());
    CHECK_FALSE(decode(Bytes().letter('T').number(0xFFFFFFFF, 4).number(0, 1).bytes()).has_value());
}

TEST_CASE("positions as text") {
    CHECK(to_text(Lsn{0x16'B374D848}) == "16/b374d848");
    CHECK(lsn_from("16/B374D848") == Lsn{0x16'B374D848});
    for (const auto* wrong : {"", "16", "16/", "/1", "x/1", "1/1 ", "123456789/1"})
        CHECK_FALSE(lsn_from(wrong).has_value());
}
