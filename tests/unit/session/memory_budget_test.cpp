#include "proxy/session/memory_budget.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

TEST_CASE("one tenant alone gets half, and leaves the others as much as is free to it") {
    metrics::Registry registry;
    MemoryBudget budget(1'000, registry);
    MemoryBudget::TenantBytes greedy{0};
    MemoryBudget::TenantBytes other{0};
    const MemoryAccount of_greedy{&budget, &greedy};
    const MemoryAccount of_other{&budget, &other};
    CHECK(of_greedy.has_room(500));
    CHECK_FALSE(of_greedy.has_room(501));
    const MemoryShare most(of_greedy, 500);
    CHECK_FALSE(of_greedy.has_room(1));
    CHECK(of_other.has_room(250));
    CHECK_FALSE(of_other.has_room(251));
}

TEST_CASE("a share is given back once, wherever it has been moved to") {
    metrics::Registry registry;
    MemoryBudget budget(1'000, registry);
    MemoryBudget::TenantBytes tenant{0};
    const MemoryAccount account{&budget, &tenant};
    {
        MemoryShare first(account, 100);
        MemoryShare second(std::move(first));
        MemoryShare third(account, 200);
        CHECK(tenant.load() == 300);
        third = std::move(second);
        CHECK(tenant.load() == 100);
        third.resize(account, 700);  // nobody asked whether there is room
        CHECK(tenant.load() == 700);
        CHECK_FALSE(account.has_room(1));
        third.release();
        third.release();
        CHECK(tenant.load() == 0);
        third.resize(account, 10);
    }
    CHECK(tenant.load() == 0);
    CHECK(account.has_room(500));
    CHECK(MemoryAccount{}.has_room(1U << 30));
    const MemoryShare uncounted(MemoryAccount{}, 1U << 30);
    CHECK(tenant.load() == 0);
}
