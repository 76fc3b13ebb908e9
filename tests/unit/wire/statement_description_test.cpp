#include "proxy/wire/statement_description.hpp"

#include <doctest/doctest.h>

#include "proxy/wire/messages.hpp"
#include "proxy/wire/writer.hpp"

using namespace pgporter;

namespace {

struct Column {
    std::string name;
    std::uint32_t type = 23;
    std::uint32_t modifier = 0xffffffffU;
    std::uint32_t table = 0;
    std::uint16_t number = 0;
    std::uint16_t format = 0;
};

std::string row_description(const std::vector<Column>& columns) {
    std::string body;
    put_u16(body, static_cast<std::uint16_t>(columns.size()));
    for (const Column& column : columns) {
        put_cstring(body, column.name);
        put_u32(body, column.table);
        put_u16(body, column.number);
        put_u32(body, column.type);
        put_u16(body, 4);
        put_u32(body, column.modifier);
        put_u16(body, column.format);
    }
    return body;
}

}  // namespace

TEST_CASE("results are the same by names, types and modifiers, wherever they come from") {
    const auto plain = results_of(row_description({{"a"}, {"b", 25}}));
    REQUIRE(plain);
    CHECK(results_of(row_description({{"a", 23, 0xffffffffU, 16400, 1, 1}, {"b", 25, 0xffffffffU, 16400, 2, 1}})) == plain);
    const std::vector<std::vector<Column>> others = {
        {}, {{"a"}}, {{"a"}, {"b", 25}, {"c"}}, {{"b", 25}, {"a"}}, {{"a", 20}, {"b", 25}}, {{"a"}, {"c", 25}}, {{"a"}, {"b", 25, 9}}, {{"ab", 25}}};
    for (const auto& other : others) {
        const auto results = results_of(row_description(other));
        REQUIRE(results);
        CHECK(*results != *plain);
        CHECK(*results != std::string(no_results));
    }
}

TEST_CASE("a malformed description is none") {
    const std::string whole = row_description({{"a"}, {"b", 25}});
    for (std::size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(results_of(std::string_view(whole).substr(0, size)));
    CHECK_FALSE(results_of(whole + "x"));
    CHECK_FALSE(described_parameters(""));
    CHECK_FALSE(described_parameters(std::string_view("\0\1\0\0\0", 5)));
    CHECK_FALSE(described_parameters(std::string_view("\0\2\0\0\0\x17", 6)));
    CHECK(described_parameters(std::string_view("\0\0", 2)) == 0);
    CHECK(described_parameters(std::string_view("\0\1\0\0\0\x17", 6)) == 1);
    // The count is that of a 16-bit field, whatever follows.
    CHECK(described_parameters(std::string(2, '\0') + std::string(65'536 * 4, '\1')) == 65'536);
}

TEST_CASE("types that aren't built in count within their database only") {
    const auto described = [](std::uint32_t type, const std::string& place, std::uint32_t parameter = 23) {
        const std::string row = row_description({{"a", type}});
        std::string parameters;
        put_u16(parameters, 1);
        put_u32(parameters, parameter);
        return StatementDescription{parameters, *results_of(row), *results_of(row, false), place};
    };
    CHECK(is_as_told(described(16'400, "c/d"), described(16'400, "c/d"), true));
    CHECK_FALSE(is_as_told(described(16'400, "c/d"), described(16'401, "c/d"), true));
    CHECK(is_as_told(described(16'400, "c/d"), described(16'401, "c/e"), true));
    CHECK_FALSE(is_as_told(described(16'400, "c/d"), described(23, "c/e"), true));
    CHECK_FALSE(is_as_told(described(20, "c/d"), described(23, "c/e"), true));
    CHECK_FALSE(is_as_told(described(23, "c/d"), described(23, "c/d", 20), true));
    CHECK(is_as_told(described(23, "c/d"), described(23, "c/d", 20), false));
}

TEST_CASE("a statement is prepared again with the built-in types that were told") {
    using namespace std::string_literals;
    const std::string definition = "SELECT $1, $2\0\0\0"s;
    std::string told;
    put_u16(told, 2);
    put_u32(told, 23);
    put_u32(told, 16'384);
    CHECK(with_parameters(definition, told) == "SELECT $1, $2\0\0\2\0\0\0\x17\0\0\0\0"s);
    CHECK(with_parameters("SELECT $1, $2\0\0\2\0\0\0\0\0\0\x40\0"s, told) == "SELECT $1, $2\0\0\2\0\0\0\x17\0\0\x40\0"s);
    CHECK(with_parameters("SELECT 1\0\0\1\0\0\0\x17"s, "\0\0"s) == "SELECT 1\0\0\0"s);
    // A Parse can declare no more than a 16-bit field counts.
    CHECK(with_parameters("SELECT 1\0\0\0"s, std::string(2, '\0') + std::string(65'536 * 4, '\1')).size() == 9 + 2 + 65'535 * 4);
}
