#include "router/search_path.hpp"

#include <doctest/doctest.h>

using namespace pgporter;
using Names = std::vector<std::string>;

TEST_CASE("search_path is split as PostgreSQL does it") {
    struct Row {
        const char* list;
        std::optional<Names> names;
    };
    const Row rows[] = {
        {"", Names{}},
        {"   ", Names{}},
        {"acme", Names{"acme"}},
        {"acme,public", Names{"acme", "public"}},
        {"  acme  ,\t public\n", Names{"acme", "public"}},
        {"ACME, Public", Names{"acme", "public"}},
        {"\"ACME\", public", Names{"ACME", "public"}},
        {"\"$user\", public", Names{"$user", "public"}},
        {"\"with \"\"quotes\"\"\", x", Names{"with \"quotes\"", "x"}},
        {"\"a,b\"", Names{"a,b"}},
        {"\"\"", Names{""}},
        {"'acme'", Names{"'acme'"}},
        {",", std::nullopt},
        {"acme,", std::nullopt},
        {"acme,,public", std::nullopt},
        {"acme public", std::nullopt},
        {"\"acme", std::nullopt},
        {"\"acme\"public", std::nullopt},
    };
    for (const auto& row : rows) {
        CAPTURE(row.list);
        CHECK(split_search_path(row.list) == row.names);
    }
}

TEST_CASE("names longer than an identifier are cut, never inside a character") {
    CHECK(split_search_path(std::string(70, 'a')) == Names{std::string(63, 'a')});
    CHECK(split_search_path(std::string(62, 'a') + "\xc3\xa9") == Names{std::string(62, 'a')});
}

TEST_CASE("no prefix of a list makes the splitter read past its end") {
    const std::string list = "acme, \"Two \"\" words\" , public";
    for (std::size_t size = 0; size <= list.size(); ++size) {
        const auto names = split_search_path(std::string_view(list).substr(0, size));
        if (names) CHECK(names->size() <= 3);
    }
}
