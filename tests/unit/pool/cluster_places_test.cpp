#include "proxy/pool/cluster_places.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "proxy/pool/rate_limit.hpp"

using namespace pgporter;
using namespace std::chrono_literals;

namespace {

struct World {
    std::shared_ptr<ClusterPlaces> cluster = std::make_shared<ClusterPlaces>();
    PlaceCaps caps{.cluster_max = 8, .reserve_percent = 25};

    Place take(const std::string& tenant, std::uint32_t promised = 0, const std::string& database = "app", std::uint32_t database_promised = 0) {
        PlaceCaps own = caps;
        own.promised = promised;
        own.database_promised = database_promised;
        return cluster->try_take(cluster->share(tenant), cluster->database(database), own);
    }
    std::vector<Place> take_all(const std::string& tenant) {
        std::vector<Place> got;
        for (;;) {
            Place place = take(tenant);
            if (!place) return got;
            got.push_back(std::move(place));
        }
    }
    std::shared_ptr<PlaceTicket> wait(const std::string& tenant, std::string* served = nullptr) {
        const auto ticket = std::make_shared<PlaceTicket>();
        ticket->share = cluster->share(tenant);
        ticket->database = cluster->database("app");
        ticket->caps = caps;
        ticket->wake = [served, tenant] {
            if (served != nullptr) *served += tenant;
        };
        cluster->wait(ticket);
        return ticket;
    }
};

}  // namespace

TEST_CASE("alone a tenant may have every place, and gives each back") {
    World world;
    auto got = world.take_all("a");
    CHECK(got.size() == 8);
    CHECK(world.cluster->used() == 8);
    got.clear();
    CHECK(world.cluster->used() == 0);
    CHECK(world.take_all("a").size() == 8);
}

TEST_CASE("beside others a reserve is left to those who use less than their share") {
    World world;
    { const auto seen = world.take("b"); }
    auto flood = world.take_all("a");
    CHECK(flood.size() == 6);
    auto first = world.take("b");
    auto second = world.take("b");
    CHECK(first);
    CHECK(second);
    CHECK_FALSE(world.take("b"));
    // Two periods later nobody else was seen at work.
    first.give_back();
    second.give_back();
    const auto now = std::chrono::steady_clock::now();
    world.cluster->tick(now + 1s);
    world.cluster->tick(now + 2s);
    world.cluster->tick(now + 3s);
    CHECK(world.take_all("a").size() == 2);
}

TEST_CASE("who only holds what it has is at work, too") {
    World world;
    auto flood = world.take_all("a");
    CHECK(flood.size() == 8);
    flood.resize(6);
    auto now = std::chrono::steady_clock::now();
    for (int period = 0; period < 4; ++period) {
        { const auto seen = world.take("b"); }
        world.cluster->tick(now += 1s);
        CHECK_FALSE(world.take("a"));
        { const auto seen = world.take("b"); }
        CHECK_FALSE(world.take("a"));
    }
}

TEST_CASE("a cluster of one or two places has room for somebody") {
    World world;
    world.caps.cluster_max = 1;
    { const auto seen = world.take("b"); }
    CHECK(world.take_all("a").size() == 1);
    world.caps.cluster_max = 2;
    CHECK(world.take_all("a").size() == 1);
}

TEST_CASE("guaranteed places are kept free, and count once") {
    World world;
    world.caps.promised_sum = 3;
    auto others = world.take_all("a");
    CHECK(others.size() == 5);
    std::vector<Place> own;
    for (int i = 0; i < 3; ++i) own.push_back(world.take("vip", 3));
    for (const auto& place : own) CHECK(place);
    CHECK_FALSE(world.take("vip", 3));
    own.pop_back();
    CHECK_FALSE(world.take("a"));
    CHECK(world.take("vip", 3));
}

TEST_CASE("places promised to a database are kept free for whoever works there, besides those of its tenants") {
    World world;
    world.caps.reserve_percent = 0;
    world.caps.promised_sum = 4;  // 1 to the tenant vip, 3 to the database crm, where it lives
    auto others = world.take_all("a");
    CHECK(others.size() == 4);
    std::vector<Place> own;
    own.push_back(world.take("vip", 1, "crm", 3));  // its own first, so that the database's stay for the others there
    for (int i = 0; i < 3; ++i) own.push_back(world.take("c", 0, "crm", 3));
    for (const auto& place : own) CHECK(place);
    CHECK_FALSE(world.take("c", 0, "crm", 3));
    CHECK_FALSE(world.take("vip", 1, "crm", 3));
    own.pop_back();
    CHECK_FALSE(world.take("a"));
    CHECK(world.take("vip", 1, "crm", 3));
    own.erase(own.begin());
    CHECK_FALSE(world.take("c", 0, "crm", 2));
    CHECK_FALSE(world.take("a"));
    CHECK(world.take("vip", 1, "crm", 3));
}

TEST_CASE("promises are kept, and no more than those, whatever threads do at once") {
    World world;
    world.caps.reserve_percent = 0;
    world.caps.promised_sum = 3;
    std::atomic<int> without{0};
    std::atomic<bool> stop{false};
    const auto flood = [&] {
        while (!stop) {
            std::vector<Place> some;
            for (int i = 0; i < 4; ++i) some.push_back(world.take("a"));
        }
    };
    // Two that ask at once may both be refused the last place, so it asks again.
    const auto promised = [&] {
        for (int i = 0; i < 5'000; ++i) {
            Place place;
            for (int tries = 0; !place && tries < 10'000; ++tries) place = world.take("c", 0, "crm", 3);
            if (!place) ++without;
        }
    };
    std::vector<std::thread> flooding;
    std::vector<std::thread> working;
    for (int i = 0; i < 2; ++i) flooding.emplace_back(flood);
    for (int i = 0; i < 3; ++i) working.emplace_back(promised);
    for (auto& thread : working) thread.join();
    stop = true;
    for (auto& thread : flooding) thread.join();
    CHECK(without == 0);
    CHECK(world.cluster->used() == 0);
    CHECK(world.take_all("a").size() == 5);
}

TEST_CASE("who waits for a full database stands aside, and is served when it has room, whoever else waits") {
    World world;
    world.caps.reserve_percent = 0;
    world.caps.database_max = 2;
    std::vector<Place> own;
    for (int i = 0; i < 2; ++i) own.push_back(world.take("a"));
    std::string served;
    std::vector<std::shared_ptr<PlaceTicket>> waiting;
    for (const char* tenant : {"b", "c", "d", "e"}) waiting.push_back(world.wait(tenant, &served));
    const auto second_of_b = world.wait("b", &served);
    CHECK(world.cluster->waiting() == 5);
    std::vector<Place> elsewhere;
    for (const char* name : {"p", "q", "r", "s", "t"}) elsewhere.push_back(world.take("x", 0, name));
    CHECK(elsewhere.back());
    CHECK(served.empty());
    world.cluster->leave(waiting[1]);  // c gives up while it stands aside
    own.pop_back();
    CHECK(served.size() == 1);
    own.pop_back();
    CHECK(served.size() == 2);
    // What has been served gives back, until everybody had his turn.
    for (int i = 0; i < 3; ++i) {
        for (const auto& ticket : {waiting[0], waiting[2], waiting[3], second_of_b}) ticket->place.give_back();
    }
    std::sort(served.begin(), served.end());
    CHECK(served == "bbde");
    CHECK(world.cluster->waiting() == 0);
    elsewhere.clear();
    CHECK(world.cluster->used() == 0);
}

TEST_CASE("a place that comes free on a full cluster goes to those for whose database there is room") {
    World world;
    world.caps.reserve_percent = 0;
    world.caps.database_max = 1;
    auto own = world.take("a");
    std::vector<Place> others;
    for (const char* name : {"p", "q", "r", "s", "t", "u", "v"}) others.push_back(world.take("x", 0, name));
    CHECK(world.cluster->used() == 8);
    std::string served;
    const auto first = world.wait("b", &served);
    const auto second = world.wait("c", &served);
    others.pop_back();  // the database is still full
    CHECK(served.empty());
    own.give_back();
    CHECK(served.size() == 1);
    const auto third = world.wait("d", &served);
    const auto give_back = [&] {
        for (const auto& ticket : {first, second, third}) {
            if (ticket->place) return ticket->place.give_back();
        }
    };
    give_back();
    CHECK(served.size() == 2);
    give_back();
    CHECK(served.size() == 3);
    give_back();
    CHECK(world.take("a"));
}

TEST_CASE("a database's cap stops its own tenants only") {
    World world;
    world.caps.database_max = 2;
    const auto one = world.take("a");
    const auto two = world.take("a");
    CHECK_FALSE(world.take("a"));
    CHECK(world.take("b", 0, "other"));
}

TEST_CASE("who waits is served when a place comes free, tenants by turns") {
    World world;
    world.caps.reserve_percent = 0;
    auto got = world.take_all("a");
    std::string served;
    std::vector<std::shared_ptr<PlaceTicket>> tickets;
    for (const char* tenant : {"a", "a", "a", "b", "b"}) tickets.push_back(world.wait(tenant, &served));
    CHECK(world.cluster->waiting() == 5);
    CHECK_FALSE(world.take("c"));
    got.pop_back();
    CHECK(served.size() == 1);
    CHECK(world.cluster->used() == 8);
    while (served.size() < 5) got.pop_back();
    CHECK(std::count(served.begin(), served.end(), 'a') == 3);
    for (const auto& ticket : tickets) CHECK(ticket->place);
}

TEST_CASE("the one who has used less time goes first") {
    World world;
    world.caps = {1, 0, 0, 0, 0};
    Place place = world.take("a");
    std::string served;
    auto a = world.wait("a", &served);
    place.give_back();
    CHECK(served == "a");
    std::this_thread::sleep_for(5ms);  // what a uses while others wait
    auto a_again = world.wait("a", &served);
    auto b = world.wait("b", &served);
    a->place.give_back();
    CHECK(served == "ab");
    b->place.give_back();
    CHECK(served == "aba");
}

TEST_CASE("whoever gives up leaves nothing behind") {
    World world;
    auto got = world.take_all("a");
    const auto gives_up = world.wait("a");
    world.cluster->leave(gives_up);
    CHECK(world.cluster->waiting() == 0);
    CHECK_FALSE(gives_up->place);
    const auto served = world.wait("a");
    got.clear();
    world.cluster->leave(served);  // served in the same moment: the place is the ticket's, and goes with it
    CHECK(served->place);
    CHECK(world.cluster->used() == 1);
    served->place.give_back();
    CHECK(world.cluster->used() == 0);
}

TEST_CASE("many threads never exceed the cap, and nobody is forgotten") {
    World world;
    world.caps.cluster_max = 3;
    world.caps.database_max = 2;
    struct Count {
        std::atomic<int> working{0};
        std::atomic<int> most{0};
        void begin() {
            const int now = working.fetch_add(1) + 1;
            int known = most.load();
            while (now > known && !most.compare_exchange_weak(known, now)) {
            }
        }
    };
    Count all;
    std::array<Count, 2> in;
    std::atomic<int> done{0};
    std::vector<std::thread> threads;
    for (std::size_t number = 0; number < 6; ++number) {
        threads.emplace_back([&, number, tenant = std::string(1, static_cast<char>('a' + number))] {
            const std::string database = number % 2 == 0 ? "app" : "crm";
            Count& here = in[number % 2];
            for (int i = 0; i < 2'000; ++i) {
                Place place = world.take(tenant, 0, database);
                if (!place) {
                    std::atomic<bool> awake{false};
                    const auto ticket = std::make_shared<PlaceTicket>();
                    ticket->share = world.cluster->share(tenant);
                    ticket->database = world.cluster->database(database);
                    ticket->caps = world.caps;
                    ticket->wake = [&awake] { awake.store(true); };
                    world.cluster->wait(ticket);
                    const auto deadline = std::chrono::steady_clock::now() + 10s;
                    while (!awake.load() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
                    world.cluster->leave(ticket);
                    place = std::move(ticket->place);
                }
                if (!place) return;
                all.begin();
                here.begin();
                all.working.fetch_sub(1);
                here.working.fetch_sub(1);
                place.give_back();
                done.fetch_add(1);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(done.load() == 12'000);
    CHECK(all.most.load() <= 3);
    for (const Count& count : in) CHECK(count.most.load() <= 2);
    CHECK(world.cluster->used() == 0);
}

TEST_CASE("a rate: a second's worth at once, then evenly") {
    RateLimit limit;
    const auto now = std::chrono::steady_clock::now();
    for (int i = 0; i < 10; ++i) CHECK(limit.take(now, 10, 0s) == 0ns);
    CHECK_FALSE(limit.take(now, 10, 0s));
    CHECK(limit.take(now, 10, 1s) == 100ms);
    CHECK(limit.take(now, 10, 1s) == 200ms);
    CHECK(limit.take(now + 300ms, 10, 0s) == 0ns);  // of which the two that wait have taken theirs
    CHECK_FALSE(limit.take(now + 300ms, 10, 0s));
    for (int i = 0; i < 10; ++i) CHECK(limit.take(now + 10s, 10, 0s) == 0ns);
    CHECK_FALSE(limit.take(now + 10s, 10, 0s));  // no more than a second's worth was kept
}

TEST_CASE("what was used without asking is paid for later") {
    RateLimit limit;
    const auto now = std::chrono::steady_clock::now();
    limit.charge(now, 1'000, 1'000);
    CHECK(limit.debt(now) == 0ns);
    limit.charge(now, 500, 1'000);
    CHECK(limit.debt(now) == 500ms);
    CHECK(limit.debt(now + 500ms) == 0ns);
}

namespace {

std::shared_ptr<PlaceTicket> wait_on(World& world, const std::string& tenant, std::uint32_t thread, std::string& served, const std::string& name,
                                     std::uint32_t tenant_max = 0) {
    const auto ticket = std::make_shared<PlaceTicket>();
    ticket->share = world.cluster->share(tenant);
    ticket->database = world.cluster->database("app");
    ticket->caps = world.caps;
    ticket->caps.tenant_max = tenant_max;
    ticket->thread = thread;
    ticket->wake = [&served, name] { served += name; };
    world.cluster->wait(ticket);
    return ticket;
}

Place take_capped(World& world, const std::string& tenant, std::uint32_t tenant_max, std::uint32_t thread = 0) {
    PlaceCaps own = world.caps;
    own.tenant_max = tenant_max;
    return world.cluster->try_take(world.cluster->share(tenant), world.cluster->database("app"), own, thread);
}

}  // namespace

TEST_CASE("a tenant's own cap holds, and who waits for it stands aside until the tenant gives a place back") {
    World world;
    Place one = take_capped(world, "a", 2);
    Place two = take_capped(world, "a", 2);
    CHECK(one);
    CHECK(two);
    CHECK_FALSE(take_capped(world, "a", 2));
    std::string served;
    const auto first = wait_on(world, "a", 0, served, "1", 2);
    const auto second = wait_on(world, "a", 0, served, "2", 2);
    CHECK(world.cluster->waiting() == 0);  // nobody else has to do with it
    Place other = take_capped(world, "b", 0);
    other.give_back();
    CHECK(served.empty());
    one.give_back();
    CHECK(served == "1");
    CHECK_FALSE(take_capped(world, "a", 2));  // a newcomer
    world.cluster->leave(second);
    two.give_back();
    CHECK(served == "1");
    first->place.give_back();
    CHECK(world.cluster->used() == 0);
    CHECK(take_capped(world, "a", 2));
}

TEST_CASE("a visit counts for the visited tenant's cap, and its end serves who waits for that") {
    World world;
    Place visit = world.cluster->visit(world.cluster->share("a"));
    CHECK(world.cluster->used() == 0);
    CHECK_FALSE(take_capped(world, "a", 1));
    std::string served;
    const auto ticket = wait_on(world, "a", 0, served, "1", 1);
    CHECK(served.empty());
    visit.give_back();
    CHECK(served == "1");
}

TEST_CASE("who waits on the thread that gives back is served first, but only so often") {
    World world;
    world.caps.cluster_max = 1;
    Place held = take_capped(world, "a", 0, 1);
    std::string served;
    const auto far = wait_on(world, "a", 0, served, "F", 0);
    std::vector<std::shared_ptr<PlaceTicket>> near;
    for (int i = 0; i < 7; ++i) near.push_back(wait_on(world, "a", 1, served, "n"));
    held.give_back();
    for (int i = 0; i < 3; ++i) near[static_cast<std::size_t>(i)]->place.give_back();
    CHECK(served == "nnnn");
    near[3]->place.give_back();
    CHECK(served == "nnnnF");
    far->place.give_back();  // on thread 0, where nobody waits
    CHECK(served == "nnnnFn");
}

TEST_CASE("a tenant that has used much doesn't overtake another one for its thread's sake") {
    World world;
    world.caps.cluster_max = 1;
    Place held = take_capped(world, "flood", 0, 1);
    std::string served;
    const auto more = wait_on(world, "flood", 1, served, "f");  // somebody waits: time is counted
    held.give_back();
    CHECK(served == "f");
    std::this_thread::sleep_for(5ms);
    const auto again = wait_on(world, "flood", 1, served, "f");
    more->place.give_back();
    const auto quiet = wait_on(world, "quiet", 0, served, "q");
    const auto third = wait_on(world, "flood", 1, served, "f");
    std::this_thread::sleep_for(5ms);
    again->place.give_back();
    CHECK(served == "ffq");
    world.cluster->leave(third);  // a ticket isn't let go of while it waits
    world.cluster->leave(third);
}
