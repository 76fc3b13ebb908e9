#include "proxy/pool/server_budget.hpp"

#include <doctest/doctest.h>

#include "proxy/pool/statement_cache.hpp"

using namespace pgporter;

TEST_CASE("caps of cluster and database hold, and a free place wakes those who starve") {
    ServerBudget budget;
    const BudgetCaps caps{3, 2};
    const BudgetKey a{"c", "a"};
    const BudgetKey b{"c", "b"};
    int me = 0;
    int other = 0;
    int woken = 0;
    const auto wake = [&] { ++woken; };
    CHECK(budget.take_or_starve(a, caps, {&me, &me}, wake));
    CHECK(budget.take_or_starve(a, caps, {&me, &me}, wake));
    CHECK_FALSE(budget.take_or_starve(a, caps, {&me, &me}, wake));  // the database's cap
    CHECK(budget.take_or_starve(b, caps, {&other, &other}, wake));
    CHECK_FALSE(budget.take_or_starve(b, caps, {&other, &other}, wake));  // the cluster's cap
    CHECK(budget.used("c") == 3);
    budget.give_back(b);
    CHECK(woken == 2);
    CHECK(budget.take_or_starve(b, caps, {&other, &other}, wake));
}

TEST_CASE("a pool is told of others that starve, not of itself, and only where its place would help") {
    ServerBudget budget;
    int me = 0;
    int other = 0;
    const auto wake = [] {};
    CHECK(budget.take_or_starve({"c", "a"}, {1, 0}, {&me, &me}, wake));
    CHECK_FALSE(budget.take_or_starve({"c", "a"}, {1, 0}, {&me, &me}, wake));
    CHECK_FALSE(budget.others_starve({"c", "a"}, &me));
    CHECK_FALSE(budget.take_or_starve({"c", "b"}, {1, 0}, {&other, &other}, wake));
    CHECK(budget.others_starve({"c", "a"}, &me));

    ServerBudget by_database;
    CHECK(by_database.take_or_starve({"c", "a"}, {9, 1}, {&me, &me}, wake));
    CHECK_FALSE(by_database.take_or_starve({"c", "a"}, {9, 1}, {&other, &other}, wake));
    CHECK(by_database.others_starve({"c", "a"}, &me));
    CHECK_FALSE(by_database.others_starve({"c", "z"}, &me));
}

TEST_CASE("who only asks takes a place under the caps, or nothing, and nobody waits for him") {
    ServerBudget budget;
    int other = 0;
    CHECK(budget.take({"c", "a"}, {2, 1}));
    CHECK_FALSE(budget.take({"c", "a"}, {2, 1}));  // the database's cap
    CHECK(budget.take({"c", "b"}, {2, 1}));
    CHECK_FALSE(budget.take({"c", "z"}, {2, 0}));  // the cluster's
    CHECK(budget.used("c") == 2);
    CHECK_FALSE(budget.others_starve({"c", "a"}, &other));
    budget.give_back({"c", "b"});
    CHECK(budget.take({"c", "z"}, {2, 0}));
}

TEST_CASE("the least recently used statement makes room") {
    StatementCache cache(2);
    cache.add(1);
    cache.add(2);
    CHECK_FALSE(cache.evict());
    CHECK(cache.touch(1));
    cache.add(3);
    CHECK(cache.evict() == std::optional<StatementNumber>(2));
    CHECK_FALSE(cache.evict());
    CHECK(cache.touch(1));
    CHECK_FALSE(cache.touch(2));
    cache.remove(1);
    CHECK_FALSE(cache.touch(1));
    cache.clear();
    CHECK(cache.size() == 0);
}
