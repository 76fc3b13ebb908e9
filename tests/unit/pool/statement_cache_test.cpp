#include "proxy/pool/statement_cache.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

TEST_CASE("a description belongs to one Parse") {
    const auto description = std::make_shared<const StatementDescription>(StatementDescription{std::string("\0\0", 2), std::string(no_results)});
    StatementCache cache(2);
    cache.add(1, 10);
    CHECK_FALSE(cache.has_described());
    cache.describe(1, 9, description);  // of the Parse before
    CHECK_FALSE(cache.touch(1)->description);
    cache.describe(1, 10, description);
    CHECK(cache.touch(1)->description == description);
    CHECK(cache.has_described());
    cache.remove(1);
    CHECK_FALSE(cache.has_described());
    cache.add(1, 11);
    CHECK_FALSE(cache.touch(1)->description);
    cache.describe(2, 1, description);  // never there
    CHECK_FALSE(cache.touch(2));
}

TEST_CASE("a statement lives as long as a server has it") {
    StatementCache cache(1);
    auto statement = std::make_shared<const int>(1);
    const std::weak_ptr<const int> seen = statement;
    cache.add(1, 1, std::move(statement));
    CHECK_FALSE(seen.expired());
    cache.add(2, 2);
    CHECK(cache.evict() == std::optional<StatementNumber>(1));
    CHECK(seen.expired());
    cache.restore(1, 3);  // its Close was skipped
    CHECK(cache.touch(1)->serial == 3);
    CHECK(cache.size() == 2);
}

TEST_CASE("what could not be closed is closed later") {
    StatementCache cache(2);
    for (StatementNumber number = 1; number <= 5; ++number) {
        cache.add(number);
        if (const auto evicted = cache.evict()) cache.restore(*evicted);
    }
    CHECK(cache.size() == 5);
    cache.add(6);
    std::size_t closed = 0;
    while (cache.evict()) ++closed;
    CHECK(closed == 4);
    CHECK(cache.size() == 2);
    CHECK(cache.touch(6));
}
