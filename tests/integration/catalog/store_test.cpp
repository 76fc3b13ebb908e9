#include "catalog/store.hpp"

#include <doctest/doctest.h>

#include <thread>

#include "catalog/migrations.hpp"
#include "tests/integration/catalog/catalog_fixture.hpp"

using namespace pgporter;
using namespace pgporter::test;

TEST_CASE_FIXTURE(CatalogFixture, "open() installs the schema once, and can be called again") {
    CatalogStore store(config);
    must(store.open());
    must(store.open());
    CatalogStore second(config);
    must(second.open());
    auto rows = must(sql().exec("SELECT version FROM pgporter.schema_migrations ORDER BY version"));
    CHECK(rows.rows() == static_cast<int>(migrations().size()));
    auto comment = must(sql().exec("SELECT obj_description('pgporter'::regnamespace)"));
    CHECK(comment.text(0, 0).starts_with("pgporter: catalog"));
}

TEST_CASE_FIXTURE(CatalogFixture, "stores that open at once don't collide") {
    std::vector<std::thread> threads;
    std::vector<std::string> errors(6);
    for (auto& error : errors) {
        threads.emplace_back([this, &error] {
            CatalogStore store(config);
            const auto opened = store.open();
            if (!opened) error = opened.error().message;
        });
    }
    for (auto& thread : threads) thread.join();
    for (const auto& error : errors) CHECK(error == "");
    CHECK(must(sql().exec("SELECT 1 FROM pgporter.schema_migrations")).rows() == static_cast<int>(migrations().size()));
}

TEST_CASE_FIXTURE(CatalogFixture, "a schema from the future is refused") {
    CatalogStore store(config);
    must(store.open());
    must(sql().exec("INSERT INTO pgporter.schema_migrations (version) VALUES (999)"));
    CatalogStore older(config);
    const auto opened = older.open();
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().kind == ErrorKind::invalid);
    CHECK(opened.error().message.find("version 999") != std::string::npos);
}

TEST_CASE_FIXTURE(CatalogFixture, "apply creates, changes, leaves alone, and load reads it all back") {
    CatalogStore store(config);
    auto document = small_document();

    const auto trial = must(store.apply(document, /*dry_run=*/true));
    CHECK(trial.created == 5);
    CHECK(must(store.load()).tenants.empty());

    const auto created = must(store.apply(document, false));
    CHECK(created.created == 5);
    CHECK(created.changes.size() == 5);
    const auto content = must(store.load());
    CHECK(content.clusters == document.clusters);
    CHECK(content.databases == document.databases);
    CHECK(content.users == document.users);
    const auto snapshot = Snapshot::build(content);
    for (auto expected : document.tenants) {
        const auto tenant = snapshot->find_tenant(expected.name);
        REQUIRE(tenant != nullptr);
        expected.id = tenant->id;
        expected.epoch = Epoch{1};
        CHECK(*tenant == expected);
    }

    const auto again = must(store.apply(document, false));
    CHECK(again.changes.empty());
    CHECK(again.unchanged == 5);
    CHECK(must(store.load()).version == content.version);

    document.tenants[1].sessions_max = 3;
    document.tenants[1].limits.kib_per_second_max = 77;
    document.tenants[1].settings = {{"work_mem", "1MB"}};
    document.users[0].scram_verifier = "SCRAM-SHA-256$secret";
    document.users[0].tenants = {"acme"};
    const auto changed = must(store.apply(document, false));
    CHECK(changed.created == 0);
    CHECK(changed.changed == 2);
    CHECK(changed.unchanged == 3);
    REQUIRE(changed.changes.size() == 2);
    CHECK(changed.changes[0].name == "globex");
    CHECK(changed.changes[0].what == "sessions_max, settings, kib_per_second_max");
    CHECK(changed.changes[1].what == "scram_verifier, tenants");
    const auto after = Snapshot::build(must(store.load()));
    CHECK(after->version() > content.version);
    CHECK(after->find_tenant("globex")->sessions_max == 3);
    CHECK(after->find_tenant("globex")->limits == TenantLimits{0, 0, 77, 0, 0, 0});
    CHECK(after->find_tenant("globex")->id == snapshot->find_tenant("globex")->id);
    CHECK(after->find_tenant("globex")->epoch == Epoch{1});
}

TEST_CASE_FIXTURE(CatalogFixture, "apply refuses what only a move may do, and writes nothing then") {
    CatalogStore store(config);
    must(store.apply(small_document(), false));
    const auto before = must(store.load()).version;

    auto document = small_document();
    document.tenants[0].sessions_max = 9;
    document.tenants[1].placement.database = "elsewhere";
    const auto moved = store.apply(document, false);
    REQUIRE_FALSE(moved.has_value());
    CHECK(moved.error().kind == ErrorKind::conflict);
    CHECK(moved.error().message.find("only a move changes a placement") != std::string::npos);

    CatalogDocument thief;
    thief.tenants = {shared_tenant("thief")};
    thief.tenants[0].placement.schema = "acme";
    const auto stolen = store.apply(thief, false);
    REQUIRE_FALSE(stolen.has_value());
    CHECK(stolen.error().message.find("\"acme\" and \"thief\"") != std::string::npos);
    CHECK(must(store.load()).version == before);

    // Clusters and tenants that the catalog has needn't be in the document.
    CatalogDocument more;
    more.tenants = {shared_tenant("initech")};
    more.users = {{"other", "", false, {"acme", "initech"}}};
    CHECK(must(store.apply(more, false)).created == 2);
    CHECK(must(store.load()).tenants.size() == 3);
}

TEST_CASE_FIXTURE(CatalogFixture, "tenants are suspended and removed") {
    CatalogStore store(config);
    must(store.apply(small_document(), false));
    CHECK(must(store.set_tenant_state("acme", TenantState::suspended)).state == TenantState::suspended);
    CHECK(store.set_tenant_state("nobody", TenantState::active).error().kind == ErrorKind::not_found);
    CHECK(store.remove_tenant("nobody").error().kind == ErrorKind::not_found);
    must(store.remove_tenant("globex"));
    const auto content = must(store.load());
    REQUIRE(content.tenants.size() == 1);
    CHECK(content.tenants[0].state == TenantState::suspended);
    CHECK(content.users[0].tenants == std::vector<std::string>{"acme"});
}

TEST_CASE_FIXTURE(CatalogFixture, "a store whose connection was ended goes on with a new one") {
    CatalogStore store(config);
    must(store.apply(small_document(), false));
    must(
        sql().exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgporter catalog' "
                   "AND datname = current_database()"));
    CHECK(must(store.load()).tenants.size() == 2);
}

TEST_CASE_FIXTURE(CatalogFixture, "tenants of rows, keys, domains and isolation are written, exchanged and read back") {
    CatalogStore store(config);
    auto document = small_document();
    document.databases.push_back({"main", "crm", 0, Isolation::role, "app.tenant", "tenant_id"});
    for (const auto* name : {"r1", "r2"}) {
        auto& tenant = document.tenants.emplace_back(shared_tenant(name));
        tenant.placement = {PlacementKind::rows, "main", "crm", ""};
        tenant.role = std::string(name) + "_role";
        tenant.key = std::string("k-") + name;
        tenant.domains = {std::string(name) + ".example", std::string("db.") + name + ".example"};
        tenant.allowed_addresses = {"10.0.0.0/8", "2001:db8::/32"};
    }
    must(store.apply(document, false));
    const auto same = [&] {
        const auto content = must(store.load());
        CHECK(content.databases.size() == document.databases.size());
        const auto snapshot = Snapshot::build(content);
        CHECK(*snapshot->find_database("main", "crm") == document.databases.back());
        for (auto expected : document.tenants) {
            const auto tenant = snapshot->find_tenant(expected.name);
            REQUIRE(tenant != nullptr);
            expected.id = tenant->id;
            expected.epoch = Epoch{1};
            CHECK(*tenant == expected);
            CHECK(snapshot->find_tenant_by_key(tenant_key(expected)) == tenant);
            for (const auto& domain : expected.domains) CHECK(snapshot->find_tenant_by_domain(domain) == tenant);
        }
    };
    same();
    CHECK(must(store.apply(document, false)).unchanged == document.databases.size() + document.tenants.size() + 2);
    // At once, in one transaction: nobody has both in between.
    std::swap(document.tenants[2].key, document.tenants[3].key);
    std::swap(document.tenants[2].domains, document.tenants[3].domains);
    CHECK(must(store.apply(document, false)).changed == 2);
    same();
    must(store.remove_tenant("r1"));
    CHECK(must(sql().exec("SELECT domain FROM pgporter.tenant_domains")).rows() == 2);
}

TEST_CASE_FIXTURE(CatalogFixture, "the catalog itself refuses two tenants of one key or one domain, and half a placement") {
    CatalogStore store(config);
    must(store.apply(small_document(), false));
    auto other = sql();
    const auto refusal = [&](const std::string& statement) {
        const auto done = other.exec(statement);
        REQUIRE_FALSE(done.has_value());
        return done.error().sqlstate;
    };
    CHECK(refusal("UPDATE pgporter.tenants SET key = 'globex' WHERE name = 'acme'") == "23505");
    CHECK(refusal("UPDATE pgporter.tenants SET domains = '{one.example}'") == "23505");
    CHECK(refusal("UPDATE pgporter.tenants SET domains = '{One.Example}' WHERE name = 'acme'") == "23514");
    CHECK(refusal("UPDATE pgporter.tenants SET kind = 'rows' WHERE name = 'acme'") == "23514");
    CHECK(refusal("UPDATE pgporter.databases SET isolation = 'none'") == "23514");
}

TEST_CASE_FIXTURE(CatalogFixture, "a catalog of the first version is upgraded with all that is in it") {
    {
        auto connection = sql();
        must(connection.exec("CREATE SCHEMA pgporter; CREATE TABLE pgporter.schema_migrations (version integer PRIMARY KEY, "
                             "applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp())"));
        must(connection.exec(std::string(migrations()[0].sql)));
        must(connection.exec("INSERT INTO pgporter.schema_migrations (version) VALUES (1); "
                             "INSERT INTO pgporter.clusters VALUES ('main', 'h', 5432, 'disable', '', 9); "
                             "INSERT INTO pgporter.databases VALUES ('main', 'app', 3); "
                             "INSERT INTO pgporter.tenants (name, kind, cluster, database, schema) VALUES ('acme', 'schema', 'main', 'app', 'acme'), "
                             "('own', 'database', 'main', 'own', '')"));
    }
    CatalogStore store(config);
    must(store.open());
    const auto snapshot = Snapshot::build(must(store.load()));
    CHECK(*snapshot->find_database("main", "app") == Database{"main", "app", 3});
    CHECK(snapshot->find_tenant_by_key("acme")->placement.schema == "acme");
    CHECK(must(sql().exec("SELECT 1 FROM pgporter.tenants WHERE kind = 'schema' AND effective_key = name")).rows() == 1);
}

TEST_CASE("a catalog that can't be reached is an error in bounded time") {
    CatalogConfig config;
    config.dsn = "host=127.0.0.1 port=1 dbname=x user=postgres";
    CatalogStore store(config);
    const auto opened = store.open();
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().kind == ErrorKind::unavailable);
    CHECK(opened.error().message.starts_with("the catalog can't be reached"));
}

TEST_CASE_FIXTURE(CatalogFixture, "100,000 tenants are applied and load quickly") {
    CatalogStore store(config);
    auto document = small_document();
    for (int i = 0; i < 100'000; ++i) document.tenants.push_back(shared_tenant("t" + std::to_string(i)));
    must(store.apply(document, false));
    const auto begun = std::chrono::steady_clock::now();
    auto content = must(store.load());
    const auto loaded = std::chrono::steady_clock::now();
    const auto snapshot = Snapshot::build(std::move(content));
    const auto built = std::chrono::steady_clock::now();
    CHECK(snapshot->tenant_count() == 100'002);
    const auto ms = [](auto duration) {
        return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
    };
    MESSAGE("load " << ms(loaded - begun) << " ms, build " << ms(built - loaded) << " ms");
    CHECK(ms(built - begun) < 10'000);  // a debug build on a busy machine; seconds, not minutes
}
