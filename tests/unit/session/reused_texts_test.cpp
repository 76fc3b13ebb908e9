#include "proxy/session/reused_texts.hpp"

#include <doctest/doctest.h>

using namespace pgporter;
using namespace std::string_literals;

namespace {

bool is_fit(std::string_view sql) {
    return is_reusable(sql, scan_statement(sql, {}));
}

}  // namespace

TEST_CASE("a text is reused only if it means the same whenever it is parsed") {
    CHECK(is_fit("SELECT a FROM t WHERE id = $1"));
    CHECK(is_fit("select a from \"T\" where id = any($1) -- 'not a string'\n and b = $2"));
    CHECK(is_fit("INSERT INTO t VALUES ($1, 2)"));
    CHECK(is_fit("UPDATE t SET a = $1;"));
    CHECK(is_fit("DELETE FROM t WHERE a = $1"));
    CHECK(is_fit("WITH x AS (SELECT $1::int) SELECT * FROM x"));

    CHECK_FALSE(is_fit("SELECT a FROM t"));  // no parameter
    CHECK_FALSE(is_fit("SELECT a$1 FROM t"));
    for (const char* string : {"'now'", "E'x'", "$$x$$", "$a$x$a$", "B'1'", "U&'x'", "N'x'", "DATE 'today'"}) {
        CAPTURE(string);
        CHECK_FALSE(is_fit("SELECT $1, " + std::string(string)));
    }
    CHECK_FALSE(is_fit("SELECT $1; SELECT $2"));
    CHECK_FALSE(is_fit("SELECT $1 INTO t2"));
    CHECK_FALSE(is_fit("SELECT U&\"x\", $1"));
    CHECK_FALSE(is_fit("SELECT \"\xc3\xa4\", $1"));
    CHECK_FALSE(is_fit("SELECT pg_advisory_lock($1)"));
    CHECK_FALSE(is_fit("SELECT set_config($1, $2, false)"));
    CHECK_FALSE(is_fit("SELECT * FROM pg_temp.t WHERE a = $1"));
    CHECK_FALSE(is_fit("CALL p($1)"));
    CHECK_FALSE(is_fit("DECLARE c CURSOR FOR SELECT $1"));
    CHECK_FALSE(is_fit("SELECT $1 /* open"));
    CHECK_FALSE(is_fit(""));
}

TEST_CASE("a text is known from the second time on, for one owner") {
    ReusedTexts texts;
    StatementRegistry registry;
    const std::string definition = "SELECT $1"s + std::string(3, '\0');
    const auto find = [&](const std::string& owner, const std::string& what) {
        return texts.find(owner, std::hash<std::string>()(owner), what, {}, registry, {});
    };
    CHECK(find("a", definition) == nullptr);
    const StatementPtr known = find("a", definition);
    REQUIRE(known != nullptr);
    CHECK(known->definition == definition);
    CHECK(find("a", definition) == known);
    CHECK(find("b", definition) == nullptr);
    const StatementPtr of_another = find("b", definition);
    REQUIRE(of_another != nullptr);
    CHECK(of_another->number != known->number);
    const std::string with_type = "SELECT $1"s + std::string("\0\0\1\0\0\0\x17", 7);
    CHECK(find("a", with_type) == nullptr);
    CHECK(find("a", with_type) != known);

    texts.forget_all();
    CHECK(find("a", definition) == nullptr);

    SessionDialect other;
    other.key = "off/UTF8";
    texts.find("a", 0, definition, other, registry, {});
    CHECK(texts.find("a", 0, definition, other, registry, {}) == nullptr);

    const std::string unfit = "SHOW x"s + std::string(3, '\0');
    CHECK(find("a", unfit) == nullptr);
    CHECK(find("a", unfit) == nullptr);
}
