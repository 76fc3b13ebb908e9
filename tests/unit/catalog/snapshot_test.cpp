#include "catalog/snapshot.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

using namespace pgporter;

namespace {

Tenant tenant_of(const std::string& name, std::uint64_t epoch = 1, const std::string& database = "app") {
    Tenant tenant;
    tenant.name = name;
    tenant.placement = {PlacementKind::schema, "main", database, name};
    tenant.epoch = Epoch{epoch};
    return tenant;
}

SnapshotContent content_of(std::uint64_t version, std::vector<Tenant> tenants) {
    SnapshotContent content;
    content.version = CatalogVersion{version};
    content.tenants = std::move(tenants);
    content.clusters = {{"main", "127.0.0.1", 5432, ServerTls::disable, "", 10},
                        {"big", "127.0.0.1", 5433, ServerTls::disable, "", 10}};
    content.databases = {{"main", "b", 1}, {"big", "b", 2}, {"main", "a", 3}};
    content.users = {{"app", "", false, {"zeta", "acme"}}};
    return content;
}

std::vector<std::string> names(const std::vector<TenantPtr>& tenants) {
    std::vector<std::string> all;
    for (const auto& tenant : tenants) all.push_back(tenant->name);
    std::sort(all.begin(), all.end());
    return all;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a snapshot finds what was put in, and nothing else") {
    auto shared = tenant_of("twin");
    shared.placement.schema = "acme";
    shared.placement.database = "other";
    const auto snapshot = Snapshot::build(content_of(5, {tenant_of("acme"), tenant_of("globex"), shared}));
    CHECK(snapshot->version() == CatalogVersion{5});
    CHECK(snapshot->tenant_count() == 3);
    CHECK(snapshot->find_tenant("acme")->placement.database == "app");
    CHECK(snapshot->find_tenant("nobody") == nullptr);
    CHECK(names(snapshot->tenants_of_schema("acme")) == Names{"acme", "twin"});
    CHECK(snapshot->tenants_of_schema("").empty());
    CHECK(snapshot->find_cluster("main")->port == 5432);
    CHECK(snapshot->find_cluster("mai") == nullptr);
    CHECK(snapshot->find_database("big", "b")->server_connections_max == 2);
    CHECK(snapshot->find_database("main", "b")->server_connections_max == 1);
    CHECK(snapshot->find_database("big", "a") == nullptr);
    CHECK(snapshot->find_user("app")->tenants == Names{"acme", "zeta"});
    CHECK(snapshot->find_user("other") == nullptr);
    for (const auto* database : {"app", "other", "a", "b"}) CHECK(snapshot->knows_database(database));
    CHECK_FALSE(snapshot->knows_database("main"));
}

TEST_CASE("many tenants are all found and visited once") {
    std::vector<Tenant> tenants;
    for (int i = 0; i < 5'000; ++i) tenants.push_back(tenant_of("t" + std::to_string(i)));
    const auto snapshot = Snapshot::build(content_of(1, tenants));
    std::size_t visited = 0;
    snapshot->for_each_tenant([&](const TenantPtr&) { ++visited; });
    CHECK(visited == 5'000);
    CHECK(std::all_of(tenants.begin(), tenants.end(),
                      [&](const Tenant& t) { return *snapshot->find_tenant(t.name) == t; }));
}

TEST_CASE("with_tenant replaces one tenant, keeps the indexes right and the old snapshot as it was") {
    const auto base = Snapshot::build(content_of(5, {tenant_of("acme"), tenant_of("globex", 1, "second")}));
    auto moved = tenant_of("globex", 2, "globex_db");
    moved.placement.kind = PlacementKind::database;
    moved.placement.schema = "renamed";
    const auto next = Snapshot::with_tenant(base, moved, CatalogVersion{9});
    CHECK(next->version() == CatalogVersion{9});
    CHECK(next->tenant_count() == 2);
    CHECK(*next->find_tenant("globex") == moved);
    CHECK(next->tenants_of_schema("globex").empty());
    CHECK(names(next->tenants_of_schema("renamed")) == Names{"globex"});
    CHECK(next->knows_database("globex_db"));
    CHECK_FALSE(next->knows_database("second"));
    CHECK(next->find_tenant("acme") == base->find_tenant("acme"));  // shared, not copied
    CHECK(base->find_tenant("globex")->placement.database == "second");
    CHECK(base->knows_database("second"));
    CHECK(names(base->tenants_of_schema("globex")) == Names{"globex"});

    const auto added = Snapshot::with_tenant(next, tenant_of("new"), CatalogVersion{3});
    CHECK(added->version() == CatalogVersion{9});  // the larger of the two
    CHECK(added->tenant_count() == 3);
    CHECK(names(added->tenants_of_schema("new")) == Names{"new"});
}

TEST_CASE("a tenant is found by its key, or by its name where it has none, and by its domains") {
    auto keyed = tenant_of("acme");
    keyed.key = "42";
    keyed.domains = {"acme.example", "db.acme.example"};
    auto same = tenant_of("same");
    same.key = "same";
    const auto base = Snapshot::build(content_of(5, {keyed, tenant_of("globex"), same}));
    CHECK(base->find_tenant_by_key("42")->name == "acme");
    CHECK(base->find_tenant_by_key("acme") == nullptr);  // it goes by its key
    CHECK(base->find_tenant("acme") != nullptr);
    CHECK(base->find_tenant_by_key("globex")->name == "globex");
    CHECK(base->find_tenant_by_key("same")->name == "same");
    CHECK(base->find_tenant_by_key("") == nullptr);
    CHECK(base->find_tenant_by_domain("db.acme.example")->name == "acme");
    CHECK(base->find_tenant_by_domain("example") == nullptr);

    auto changed = keyed;
    changed.key = "43";
    changed.domains = {"acme.example", "new.example"};
    const auto next = Snapshot::with_tenant(base, changed, CatalogVersion{6});
    CHECK(next->find_tenant_by_key("42") == nullptr);
    CHECK(next->find_tenant_by_key("43")->name == "acme");
    CHECK(next->find_tenant_by_domain("db.acme.example") == nullptr);
    CHECK(next->find_tenant_by_domain("new.example")->name == "acme");
    CHECK(base->find_tenant_by_key("42")->name == "acme");
    CHECK(base->find_tenant_by_domain("db.acme.example")->name == "acme");

    changed.key.clear();
    const auto last = Snapshot::with_tenant(next, changed, CatalogVersion{7});
    CHECK(last->find_tenant_by_key("acme")->name == "acme");
    CHECK(last->find_tenant_by_key("43") == nullptr);
}

TEST_CASE("while two tenants exchange keys or domains, the key names nobody, never the wrong one") {
    auto acme = tenant_of("acme");
    auto globex = tenant_of("globex");
    acme.key = "1";
    globex.key = "2";
    acme.domains = {"one.example"};
    globex.domains = {"two.example"};
    const auto base = Snapshot::build(content_of(5, {acme, globex}));
    std::swap(acme.key, globex.key);
    std::swap(acme.domains, globex.domains);
    const auto half = Snapshot::with_tenant(base, acme, CatalogVersion{6});
    CHECK(half->find_tenant_by_key("1") == nullptr);
    CHECK(half->find_tenant_by_key("2") == nullptr);
    CHECK(half->find_tenant_by_domain("two.example") == nullptr);
    const auto whole = Snapshot::with_tenant(half, globex, CatalogVersion{6});
    CHECK(whole->find_tenant_by_key("1")->name == "globex");
    CHECK(whole->find_tenant_by_key("2")->name == "acme");
    CHECK(whole->find_tenant_by_domain("two.example")->name == "acme");

    // A key that is another tenant's name, for the moment.
    acme.key = "globex";
    globex.key.clear();
    const auto clash = Snapshot::build(content_of(7, {acme, globex}));
    CHECK(clash->find_tenant_by_key("globex") == nullptr);
}

TEST_CASE("published snapshots keep keys and domains right, also those of tenants that were flipped meanwhile") {
    SnapshotPublisher publisher;
    auto acme = tenant_of("acme");
    acme.key = "1";
    acme.domains = {"one.example"};
    publisher.publish(Snapshot::build(content_of(5, {acme, tenant_of("globex")})));
    auto flipped = acme;
    flipped.epoch = Epoch{2};
    flipped.key = "11";
    publisher.publish_tenant(flipped, CatalogVersion{7});
    auto globex = tenant_of("globex");
    globex.key = "2";
    publisher.publish(Snapshot::build(content_of(6, {acme, globex})));  // read before the flip
    CHECK(publisher.current()->find_tenant_by_key("11")->name == "acme");
    CHECK(publisher.current()->find_tenant_by_key("1") == nullptr);
    CHECK(publisher.current()->find_tenant_by_key("2")->name == "globex");
    publisher.publish(Snapshot::build(content_of(8, {globex})));
    CHECK(publisher.current()->find_tenant_by_key("11") == nullptr);
    CHECK(publisher.current()->find_tenant_by_domain("one.example") == nullptr);
    CHECK(publisher.current()->find_tenant_by_key("2")->name == "globex");
}

TEST_CASE("with_tenant gives the base back when there is nothing newer") {
    const auto base = Snapshot::build(content_of(5, {tenant_of("acme", 4)}));
    CHECK(Snapshot::with_tenant(base, tenant_of("acme", 4), CatalogVersion{5}) == base);
    CHECK(Snapshot::with_tenant(base, tenant_of("acme", 3, "old_db"), CatalogVersion{50}) == base);
    auto suspended = tenant_of("acme", 4);
    suspended.state = TenantState::suspended;
    CHECK(Snapshot::with_tenant(base, suspended, CatalogVersion{6}) != base);
}

TEST_CASE("publish never takes a tenant back to an older epoch") {
    SnapshotPublisher publisher;
    CHECK(publisher.current() == nullptr);
    publisher.publish_tenant(tenant_of("early"), CatalogVersion{1});
    CHECK(publisher.current() == nullptr);  // one tenant is no catalog
    publisher.publish(Snapshot::build(content_of(5, {tenant_of("acme"), tenant_of("globex")})));
    publisher.publish_tenant(tenant_of("acme", 2, "acme_db"), CatalogVersion{7});

    auto changed = tenant_of("globex");
    changed.state = TenantState::suspended;
    publisher.publish(
        Snapshot::build(content_of(6, {tenant_of("acme"), changed, tenant_of("new")})));  // read before the flip
    CHECK(publisher.current()->find_tenant("acme")->placement.database == "acme_db");
    CHECK(publisher.current()->knows_database("acme_db"));
    CHECK(publisher.current()->find_tenant("globex")->state == TenantState::suspended);
    CHECK(publisher.current()->find_tenant("new") != nullptr);
    CHECK(publisher.current()->version() == CatalogVersion{7});

    publisher.publish(Snapshot::build(content_of(8, {tenant_of("acme", 3, "third_db"), changed})));
    CHECK(publisher.current()->find_tenant("acme")->placement.database == "third_db");
    CHECK(publisher.current()->find_tenant("new") == nullptr);  // removed
    CHECK(publisher.current()->tenant_count() == 2);
    CHECK_FALSE(publisher.current()->knows_database("acme_db"));
}

TEST_CASE("a whole snapshot older than the last whole one is dropped") {
    SnapshotPublisher publisher;
    publisher.publish(Snapshot::build(content_of(9, {tenant_of("acme")})));
    const auto before = publisher.current();
    publisher.publish(Snapshot::build(content_of(8, {tenant_of("acme"), tenant_of("gone")})));
    CHECK(publisher.current() == before);
}

TEST_CASE("what is equal is shared between publications") {
    SnapshotPublisher publisher;
    publisher.publish(Snapshot::build(content_of(1, {tenant_of("acme"), tenant_of("globex")})));
    const auto first = publisher.current();
    publisher.publish(Snapshot::build(content_of(2, {tenant_of("acme"), tenant_of("globex"), tenant_of("new")})));
    const auto second = publisher.current();
    CHECK(second->find_tenant("acme") == first->find_tenant("acme"));
    CHECK(&second->users() == &first->users());
    CHECK(&second->clusters() == &first->clusters());
    CHECK(names(second->tenants_of_schema("new")) == Names{"new"});
}

TEST_CASE("subscribers get the current snapshot at once, then each new one, in order") {
    SnapshotPublisher publisher;
    std::vector<std::uint64_t> early;
    std::vector<std::uint64_t> late;
    publisher.subscribe([&](const SnapshotPtr& s) { early.push_back(s->version().value); });
    publisher.publish(Snapshot::build(content_of(1, {tenant_of("acme")})));
    publisher.subscribe([&](const SnapshotPtr& s) { late.push_back(s->version().value); });
    publisher.publish_tenant(tenant_of("acme", 2), CatalogVersion{2});
    publisher.publish_tenant(tenant_of("acme", 1), CatalogVersion{3});  // nothing newer: nobody is called
    CHECK(early == std::vector<std::uint64_t>{1, 2});
    CHECK(late == std::vector<std::uint64_t>{1, 2});
}

TEST_CASE("whatever is changed one by one, a snapshot says the same as one built of it at once") {
    std::mt19937 dice(7);
    const auto one_of = [&dice](int count) { return std::to_string(dice() % static_cast<unsigned>(count)); };
    std::map<std::string, Tenant> expected;
    SnapshotPtr snapshot = Snapshot::build({});
    for (std::uint64_t step = 1; step <= 3'000; ++step) {
        Tenant changed = tenant_of("t" + one_of(400), step);
        changed.placement.schema = "s" + one_of(300);
        changed.key = dice() % 2 == 0 ? "" : "k" + one_of(300);
        if (dice() % 3 == 0) changed.domains = {"d" + one_of(200)};
        if (dice() % 5 == 0) changed.domains.push_back("e" + one_of(200));
        expected[changed.name] = changed;
        snapshot = Snapshot::with_tenant(snapshot, changed, CatalogVersion{step});
    }
    SnapshotContent content;
    for (const auto& [name, changed] : expected) content.tenants.push_back(changed);
    const SnapshotPtr built = Snapshot::build(std::move(content));
    for (const SnapshotPtr& whole : {built, Snapshot::merged(snapshot, built), Snapshot::merged(built, snapshot)}) {
        CHECK(whole->tenant_count() == expected.size());
    }
    const auto name_of = [](const TenantPtr& found) { return found ? found->name : std::string(); };
    for (int i = 0; i < 400; ++i) {
        const std::string number = std::to_string(i);
        const auto at = expected.find("t" + number);
        CHECK((snapshot->find_tenant("t" + number) != nullptr) == (at != expected.end()));
        if (at != expected.end()) CHECK(*snapshot->find_tenant("t" + number) == at->second);
        std::set<std::string> in_schema;
        std::vector<std::string> by_key;
        std::vector<std::string> by_domain;
        for (const auto& [name, one] : expected) {
            if (one.placement.schema == "s" + number) in_schema.insert(name);
            if (one.key == "k" + number) by_key.push_back(name);
            if (std::count(one.domains.begin(), one.domains.end(), "d" + number) != 0) by_domain.push_back(name);
        }
        for (const SnapshotPtr& either : {snapshot, built}) {
            std::multiset<std::string> found;
            for (const TenantPtr& one : either->tenants_of_schema("s" + number)) found.insert(one->name);
            CHECK(found == std::multiset<std::string>(in_schema.begin(), in_schema.end()));
            CHECK(name_of(either->find_tenant_by_key("k" + number)) == (by_key.size() == 1 ? by_key.front() : ""));
            CHECK(name_of(either->find_tenant_by_domain("d" + number)) == (by_domain.size() == 1 ? by_domain.front() : ""));
        }
    }
}
