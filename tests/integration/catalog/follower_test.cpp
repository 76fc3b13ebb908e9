#include "catalog/follower.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/integration/catalog/catalog_fixture.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

class FollowerFixture : public CatalogFixture {
  public:
    FollowerFixture() : store(config) {
        must(store.apply(small_document(), false));
        file = std::filesystem::path(server().socket_dir()) / "snapshot.json";
        config.snapshot_file = file;
        std::filesystem::remove(file);
    }
    ~FollowerFixture() {
        if (!server().running()) server().restart();
    }
    [[nodiscard]] static bool suspended(const SnapshotPublisher& publisher, const char* tenant) {
        return publisher.current()->find_tenant(tenant)->state == TenantState::suspended;
    }
    [[nodiscard]] bool file_has(CatalogVersion version) const {
        const auto content = load_snapshot_file(file);
        return content && content->version == version;
    }

    CatalogStore store;  // "another instance"
    std::string file;
};

struct Instance {
    explicit Instance(const CatalogConfig& config) : store(config), follower(config, store, publisher, registry) {}
    CatalogStore store;
    SnapshotPublisher publisher;
    metrics::Registry registry;
    CatalogFollower follower;
    [[nodiscard]] std::uint64_t resyncs() { return registry.counter("pgporter_catalog_resyncs_total", "").value(); }
};

}  // namespace

TEST_CASE_FIXTURE(FollowerFixture, "a change by another instance is published within a second, and only that is read") {
    Instance instance(config);
    must(instance.follower.start());
    CHECK(instance.follower.connected());
    CHECK(instance.publisher.current()->tenant_count() == 2);
    CHECK(instance.resyncs() == 1);

    must(store.set_tenant_state("acme", TenantState::suspended));
    CHECK(becomes_true([&] { return suspended(instance.publisher, "acme"); }, std::chrono::seconds(1)));
    CatalogDocument more;
    more.tenants = {shared_tenant("initech")};
    must(store.apply(more, false));
    CHECK(becomes_true([&] { return instance.publisher.current()->find_tenant("initech") != nullptr; },
                       std::chrono::seconds(1)));
    CHECK(instance.resyncs() == 1);

    must(store.remove_tenant("initech"));
    CHECK(becomes_true([&] { return instance.publisher.current()->find_tenant("initech") == nullptr; },
                       std::chrono::seconds(1)));
    CHECK(becomes_true([&] { return instance.resyncs() >= 2; }));
    CatalogDocument user;
    user.users = {{"late", "", true, {}}};
    must(store.apply(user, false));
    CHECK(becomes_true([&] { return instance.publisher.current()->find_user("late") != nullptr; },
                       std::chrono::seconds(1)));
    const auto version = must(store.load()).version;
    CHECK(becomes_true([&] { return file_has(version); }));
    CHECK(instance.registry.gauge("pgporter_catalog_version", "").value() == static_cast<std::int64_t>(version.value));
    CHECK(instance.registry.gauge("pgporter_catalog_tenants", "").value() == 2);
    CHECK(instance.registry.gauge("pgporter_catalog_connected", "").value() == 1);
}

TEST_CASE_FIXTURE(FollowerFixture, "many changes in one transaction arrive as one state") {
    Instance instance(config);
    must(instance.follower.start());
    CatalogDocument many;
    for (int i = 0; i < 1'000; ++i) many.tenants.push_back(shared_tenant("many" + std::to_string(i)));
    bool partly = false;
    instance.publisher.subscribe([&](const SnapshotPtr& snapshot) {
        if (snapshot->tenant_count() != 2 && snapshot->tenant_count() != 1'002) partly = true;
    });
    must(store.apply(many, false));
    CHECK(becomes_true([&] { return instance.publisher.current()->tenant_count() == 1'002; }));
    instance.follower.stop();
    CHECK_FALSE(partly);
}

TEST_CASE_FIXTURE(FollowerFixture, "sync_now() publishes before it returns") {
    Instance instance(config);
    CHECK_FALSE(instance.follower.sync_now().has_value());  // not started
    must(instance.follower.start());
    for (int i = 0; i < 50; ++i) {
        const auto state = i % 2 == 0 ? TenantState::suspended : TenantState::active;
        must(store.set_tenant_state("acme", state));
        must(instance.follower.sync_now());
        REQUIRE(instance.publisher.current()->find_tenant("acme")->state == state);
    }
}

// The notification then comes in with the answer to another statement, and the socket stays silent afterwards.
TEST_CASE_FIXTURE(FollowerFixture, "a change while the catalog is being read is followed as well") {
    std::atomic<bool> done{false};
    std::atomic<int> changes{0};
    std::thread writer([&] {
        while (!done)
            must(store.set_tenant_state("acme", ++changes % 2 == 0 ? TenantState::active : TenantState::suspended));
    });
    for (int i = 0; i < 20; ++i) {
        Instance instance(config);
        must(instance.follower.start());
        const int seen = changes;
        CHECK(becomes_true([&] { return changes > seen + 1; }));
        if (i == 19) {
            done = true;
            writer.join();
            const auto version = must(store.load()).version;
            CHECK(becomes_true([&] { return instance.publisher.current()->version() == version; },
                               std::chrono::seconds(1)));
        }
    }
}

TEST_CASE_FIXTURE(FollowerFixture, "a notification that never came is made up for after resync_ms") {
    config.resync_ms = Milliseconds{100};
    Instance instance(config);
    must(instance.follower.start());
    must(
        sql().exec("BEGIN; ALTER TABLE pgporter.tenants DISABLE TRIGGER raise_version; "
                   "UPDATE pgporter.catalog_version SET version = version + 1; "
                   "UPDATE pgporter.tenants SET state = 'suspended' WHERE name = 'acme'; "
                   "ALTER TABLE pgporter.tenants ENABLE TRIGGER raise_version; COMMIT"));
    CHECK(becomes_true([&] { return suspended(instance.publisher, "acme"); }));
}

TEST_CASE_FIXTURE(FollowerFixture,
                  "the catalog stops and comes back: the snapshot stays, then everything is read again") {
    Instance instance(config);
    must(instance.follower.start());
    const auto before = instance.publisher.current();
    server().stop(PostgresServer::Stop::immediate);
    CHECK(becomes_true([&] { return !instance.follower.connected(); }));
    CHECK(instance.publisher.current() == before);
    const auto synced = instance.follower.sync_now();
    REQUIRE_FALSE(synced.has_value());
    CHECK(synced.error().kind == ErrorKind::unavailable);

    server().restart();
    must(store.set_tenant_state("globex", TenantState::suspended));
    CHECK(becomes_true([&] { return instance.follower.connected() && suspended(instance.publisher, "globex"); }));
    CHECK(instance.resyncs() >= 2);
    must(instance.follower.sync_now());
}

TEST_CASE_FIXTURE(FollowerFixture,
                  "a start without the catalog takes the saved snapshot, and follows once the catalog is there") {
    {
        Instance first(config);
        must(first.follower.start());
        first.follower.stop();
    }
    struct stat status {};
    REQUIRE(::stat(file.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);

    server().stop();
    Instance instance(config);
    must(instance.follower.start());
    CHECK_FALSE(instance.follower.connected());
    CHECK(instance.publisher.current()->tenant_count() == 2);
    CHECK(instance.publisher.current()->find_tenant("acme")->settings == small_document().tenants[0].settings);
    server().restart();
    CHECK(becomes_true([&] { return instance.follower.connected(); }));
    must(store.set_tenant_state("acme", TenantState::suspended));
    CHECK(becomes_true([&] { return suspended(instance.publisher, "acme"); }));
}

TEST_CASE_FIXTURE(FollowerFixture,
                  "without catalog and without a whole file there is no start, and the error says both") {
    std::ofstream(file) << "{\"format\":1,\n\"version\":5,\n\"clusters\":[";
    server().stop();
    {
        Instance instance(config);
        const auto started = instance.follower.start();
        REQUIRE_FALSE(started.has_value());
        CHECK(started.error().kind == ErrorKind::unavailable);
        CHECK(started.error().detail.find("is damaged") != std::string::npos);
        CHECK(instance.publisher.current() == nullptr);
    }
    config.snapshot_file.clear();
    Instance instance(config);
    const auto started = instance.follower.start();
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error().hint.find("snapshot_file") != std::string::npos);
}

TEST_CASE_FIXTURE(FollowerFixture, "a flip that was published here isn't undone by what is read meanwhile") {
    Instance instance(config);
    must(instance.follower.start());
    auto tenant = *instance.publisher.current()->find_tenant("acme");
    tenant.epoch = Epoch{tenant.epoch.value + 1};
    tenant.placement.database = "acme_db";
    instance.publisher.publish_tenant(tenant, CatalogVersion{instance.publisher.current()->version().value + 1});
    must(store.set_tenant_state("acme", TenantState::suspended));  // an older epoch, with a new version
    must(instance.follower.sync_now());
    CHECK(*instance.publisher.current()->find_tenant("acme") == tenant);
}
