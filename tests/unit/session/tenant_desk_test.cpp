#include "proxy/session/tenant_desk.hpp"

#include <doctest/doctest.h>

#include "proxy/session/cancel_registry.hpp"
#include "proxy/session/coalescer.hpp"

using namespace pgporter;

namespace {

struct Fixture {
    metrics::Registry registry;
    TenantLedger ledger{registry, 2};
    asio::io_context context;
    DeadlineWheel wheel;
    Fixture() { wheel.attach(context); }
    ~Fixture() { wheel.detach(); }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a hold is drained when every thread has acknowledged and no lease is left") {
    TenantDesk one(0, wheel, "acme", ledger);
    TenantDesk two(1, wheel, "acme", ledger);
    one.begin_lease();
    auto hold = std::make_shared<HoldState>(HoldId{1}, "acme", 2, std::chrono::seconds(60));
    one.hold(hold);
    CHECK(one.is_held());
    CHECK_FALSE(hold->wait(std::chrono::milliseconds(0)).drained);  // the other thread hasn't spoken
    two.hold(hold);
    CHECK(hold->wait(std::chrono::milliseconds(0)).transactions == 1);
    CHECK_FALSE(hold->wait(std::chrono::milliseconds(0)).drained);
    one.end_lease();
    CHECK(hold->wait(std::chrono::milliseconds(0)).drained);
    one.open();
    two.open();
}

TEST_CASE_FIXTURE(Fixture, "waiters at the gate are counted and let go when it opens") {
    TenantDesk desk(0, wheel, "acme", ledger);
    auto hold = std::make_shared<HoldState>(HoldId{1}, "acme", 1, std::chrono::seconds(60));
    desk.hold(hold);
    PoolWaiter waiter(context.get_executor());
    desk.join_gate(waiter);
    CHECK(hold->wait(std::chrono::milliseconds(0)).waiting == 1);
    desk.open();
    CHECK(waiter.end == PoolWaiter::End::served);
    CHECK_FALSE(desk.is_held());
}

TEST_CASE_FIXTURE(Fixture, "a hold that nobody releases ends by itself") {
    TenantDesk desk(0, wheel, "acme", ledger);
    auto hold = std::make_shared<HoldState>(HoldId{1}, "acme", 1, std::chrono::milliseconds(20));
    desk.hold(hold);
    context.run();  // returns when nothing is armed any more
    CHECK_FALSE(desk.is_held());
    CHECK(hold->is_expired());
    CHECK(hold->wait(std::chrono::milliseconds(0)).expired);
    CHECK_FALSE(hold->wait(std::chrono::milliseconds(0)).drained);
}

TEST_CASE_FIXTURE(Fixture, "pinned sessions are named as such") {
    TenantDesk desk(0, wheel, "acme", ledger);
    desk.begin_lease();
    desk.pin();
    auto hold = std::make_shared<HoldState>(HoldId{1}, "acme", 1, std::chrono::seconds(60));
    desk.hold(hold);
    CHECK(hold->wait(std::chrono::milliseconds(0)).pinned == 1);
    desk.unpin();
    CHECK(hold->wait(std::chrono::milliseconds(0)).pinned == 0);
    desk.end_lease();
    desk.open();
}

TEST_CASE_FIXTURE(Fixture, "tenants beyond the bound share a label") {
    ledger.counters("a").transactions.inc();
    ledger.counters("b").transactions.inc();
    ledger.counters("c").transactions.inc();
    ledger.counters("d").transactions.inc();
    for (const auto& family : registry.collect()) {
        if (family.name != "pgporter_tenant_transactions_total") continue;
        REQUIRE(family.samples.size() == 3);
        for (const auto& sample : family.samples) {
            if (sample.labels.front().second == "_other") CHECK(sample.value == 2);
        }
    }
}

TEST_CASE("a cancel key needs both its numbers") {
    CancelRegistry registry;
    const CancelKey key = registry.add({3, SessionId{7}}, 0);
    CHECK((key.pid & 0x80000000U) == 0);
    REQUIRE(registry.find(key.pid, key.secret));
    CHECK(registry.find(key.pid, key.secret)->session == SessionId{7});
    std::string wrong = key.secret;
    wrong[0] = static_cast<char>(wrong[0] ^ 1);
    CHECK_FALSE(registry.find(key.pid, wrong));
    CHECK_FALSE(registry.find(key.pid, key.secret + "x"));
    CHECK_FALSE(registry.find(key.pid ^ 1U, key.secret));
    registry.remove(key);
    CHECK_FALSE(registry.find(key.pid, key.secret));
}

TEST_CASE("pieces side by side leave without a copy, others are put together in order") {
    const std::string buffer = "abcdef";
    const std::string_view view = buffer;
    Coalescer out;
    out.put(view.substr(0, 2));
    out.put(view.substr(2, 2));
    CHECK(out.bytes() == "abcd");
    CHECK(out.bytes().data() == buffer.data());
    out.put_copy("X");
    out.put(view.substr(4));
    CHECK(out.bytes() == "abcdXef");
    out.done();
    CHECK(out.bytes().empty());
}

TEST_CASE("a piece that goes is kept, and what comes behind it stays in order") {
    const std::string buffer = "cd";
    Coalescer out;
    {
        std::string gone = "ab";
        out.put(gone);
        out.keep();
        gone = "??";
    }
    out.put(buffer);
    CHECK(out.bytes() == "abcd");
}
