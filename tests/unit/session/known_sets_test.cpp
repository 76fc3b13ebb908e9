#include "proxy/session/known_sets.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

bool is_kept(std::string_view sql) {
    KnownSets known;
    known.note(sql, recognise(sql));
    return known.find(sql) != nullptr;
}

}  // namespace

TEST_CASE("a SET that lasts is known again by its exact text, with what it sets") {
    KnownSets known;
    const std::string sql = "SET search_path = Acme, public;";
    CHECK(known.find(sql) == nullptr);
    known.note(sql, recognise(sql));
    const KnownSet* found = known.find(sql);
    REQUIRE(found != nullptr);
    CHECK(found->name == "search_path");
    CHECK(found->value == "acme, public");
    CHECK(known.find("SET search_path = acme, public;") == nullptr);
    CHECK(known.find(sql.substr(0, sql.size() - 1)) == nullptr);
    CHECK(known.find("") == nullptr);
}

TEST_CASE("what isn't one SET to a value that stands there, or doesn't last, isn't kept") {
    CHECK(is_kept("set session \"app\".tenant to 'x'"));
    CHECK(is_kept("SET SCHEMA 'acme'"));
    for (const char* sql : {"SET LOCAL search_path = acme", "RESET search_path", "SET search_path TO DEFAULT", "SET search_path = acme; SELECT 1",
                            "SELECT set_config('search_path', 'acme', false)", "BEGIN", "SELECT 1", "", "SET search_path = acme \v", "SET search_path = ",
                            "SET TRANSACTION READ ONLY"}) {
        CAPTURE(sql);
        CHECK_FALSE(is_kept(sql));
    }
    CHECK_FALSE(is_kept("SET search_path = acme" + std::string(KnownSets::text_bytes_max, ' ')));
}

TEST_CASE("there are never more than so many, and none is taken for another") {
    KnownSets known;
    const auto text = [](int i) { return "SET search_path = tenant_" + std::to_string(i); };
    for (int i = 0; i < 5000; ++i) known.note(text(i), recognise(text(i)));
    std::size_t found = 0;
    for (int i = 0; i < 5000; ++i) {
        const KnownSet* kept = known.find(text(i));
        if (kept == nullptr) continue;
        ++found;
        CHECK(kept->value == "tenant_" + std::to_string(i));
    }
    CHECK(found > 0);
    CHECK(found <= KnownSets::places);
}
