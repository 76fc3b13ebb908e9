#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "catalog/follower.hpp"

using namespace pgporter;

namespace {

class Folder {
  public:
    Folder() {
        std::string path = (std::filesystem::temp_directory_path() / "pgporter-snapshot-XXXXXX").string();
        REQUIRE(::mkdtemp(path.data()) != nullptr);
        folder = path;
        file = folder + "/snapshot.json";
    }
    ~Folder() { std::filesystem::remove_all(folder); }
    [[nodiscard]] std::string text() const {
        std::ifstream in(file);
        std::ostringstream out;
        out << in.rdbuf();
        return out.str();
    }
    void write(const std::string& text) const { std::ofstream(file, std::ios::trunc) << text; }

    std::string folder;
    std::string file;
};

SnapshotContent content() {
    SnapshotContent c;
    c.version = CatalogVersion{42};
    c.clusters = {{"main", "/run/pg", 5433, ServerTls::verify_full, "/ca.pem", 7}};
    c.databases = {{"main", "app", 3, Isolation::login, "app.tenant", "tenant_id", 2}};
    c.users = {{"app", "SCRAM-SHA-256$x", false, {"acme", "globex"}}, {"all", "", true, {}}};
    Tenant t;
    t.id = TenantId{9};
    t.name = "acme";
    t.placement = {PlacementKind::database, "main", "acme_db", "Odd \"schema\"\n\xc3\xa9"};
    t.state = TenantState::suspended;
    t.pool_mode = PoolMode::session;
    t.epoch = Epoch{18'446'744'073'709'551'615U};
    t.role = "r";
    t.shared_schemas = {};
    t.server_connections_max = 4'294'967'295U;
    t.sessions_max = 2;
    t.limits.transaction_ms_max = 9'000;
    t.limits.server_connections_min = 1;
    t.settings = {{"b", "1"}, {"a", ""}};
    t.key = "k\"1";
    t.domains = {"a.example", "b.example"};
    t.allowed_addresses = {"10.0.0.0/8"};
    Tenant second;
    second.name = "globex";
    second.placement.kind = PlacementKind::rows;
    c.tenants = {t, second};
    return c;
}

}  // namespace

TEST_CASE_FIXTURE(Folder, "what is saved is read back, and nobody else can read it") {
    const auto snapshot = Snapshot::build(content());
    REQUIRE(save_snapshot_file(*snapshot, file).has_value());
    REQUIRE(save_snapshot_file(*snapshot, file).has_value());  // over the old one
    struct stat status {};
    REQUIRE(::stat(file.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    CHECK_FALSE(std::filesystem::exists(file + ".tmp"));

    auto loaded = load_snapshot_file(file);
    if (!loaded) FAIL(loaded.error().detail);
    CHECK(loaded->version == CatalogVersion{42});
    CHECK(loaded->clusters == content().clusters);
    CHECK(loaded->databases == content().databases);
    CHECK(snapshot->guaranteed_connections("main") == 3);  // one to the tenant, two to the database
    const auto again = Snapshot::build(*std::move(loaded));
    for (const auto& tenant : content().tenants) CHECK(*again->find_tenant(tenant.name) == tenant);
    for (const auto& user : content().users) CHECK(*again->find_user(user.name) == user);
}

TEST_CASE_FIXTURE(Folder, "a file cut anywhere is an error, never a crash or a smaller catalog") {
    REQUIRE(save_snapshot_file(*Snapshot::build(content()), file).has_value());
    const std::string whole = text();
    const std::size_t end = whole.find_last_of('}');
    for (std::size_t size = 0; size <= end; ++size) {
        write(whole.substr(0, size));
        const auto loaded = load_snapshot_file(file);
        CAPTURE(size);
        REQUIRE_FALSE(loaded.has_value());
        REQUIRE(loaded.error().kind == ErrorKind::invalid);
    }
}

TEST_CASE_FIXTURE(Folder, "a file that says something else is an error") {
    REQUIRE(save_snapshot_file(*Snapshot::build(content()), file).has_value());
    const std::string whole = text();
    const std::pair<const char*, const char*> changes[] = {
        {"\"format\":3", "\"format\":4"},
        {"\"format\":3", "\"format\":0"},
        {"\"isolation\":\"login\"", "\"isolation\":\"none\""},
        {"\"key\":\"\"", "\"key\":\"k\\\"1\""},
        {"[\"a.example\",\"b.example\"]", "[\"a.example\",\"a.example\"]"},
        {"\"tenants\":[\n", "\"other\":[\n"},
        {"\"port\":5433", "\"port\":70000"},
        {"\"port\":5433", "\"port\":\"x\""},
        {"\"state\":\"suspended\"", "\"state\":\"odd\""},
        {"\"name\":\"globex\"", "\"name\":\"acme\""},
        {"\"name\":\"globex\"", "\"name\":\"Globex\""},
        {"\"version\":42", "\"version\":-1"},
    };
    for (const auto& [from, to] : changes) {
        CAPTURE(to);
        const auto at = whole.find(from);
        REQUIRE(at != std::string::npos);
        write(std::string(whole).replace(at, std::string(from).size(), to));
        const auto loaded = load_snapshot_file(file);
        REQUIRE_FALSE(loaded.has_value());
        CHECK(loaded.error().message.find("is damaged or not a snapshot") != std::string::npos);
    }
    CHECK(load_snapshot_file(folder + "/none").error().kind == ErrorKind::not_found);
}

TEST_CASE_FIXTURE(Folder, "a file of the first format is read: no keys, no domains, isolation app") {
    write(R"json({"format":1,
"version":7,
"clusters":[
{"name":"main","host":"h","port":5432,"tls":"disable","tls_ca_file":"","server_connections_max":9}],
"databases":[
{"cluster":"main","name":"app","server_connections_max":3}],
"users":[],
"tenants":[
{"id":1,"name":"acme","kind":"schema","cluster":"main","database":"app","schema":"acme","state":"active","pool_mode":"transaction",
"epoch":1,"role":"","shared_schemas":["public"],"server_connections_max":0,"sessions_max":0,"settings":[]}]}
)json");
    const auto loaded = load_snapshot_file(file);
    if (!loaded) FAIL(loaded.error().detail);
    CHECK(loaded->databases == std::vector<Database>{{"main", "app", 3}});
    CHECK(loaded->tenants.at(0).key.empty());
    CHECK(loaded->tenants.at(0).domains.empty());
}

TEST_CASE_FIXTURE(Folder, "a file of the second format is read: no limits") {
    write(R"json({"format":2,
"version":7,
"clusters":[],
"databases":[],
"users":[],
"tenants":[
{"id":1,"name":"acme","kind":"schema","cluster":"main","database":"app","schema":"acme","state":"active","pool_mode":"transaction",
"epoch":1,"role":"","shared_schemas":["public"],"server_connections_max":0,"sessions_max":0,"settings":[],"key":"42","domains":[],"allowed_addresses":[]}]}
)json");
    const auto loaded = load_snapshot_file(file);
    if (!loaded) FAIL(loaded.error().detail);
    CHECK(loaded->tenants.at(0).key == "42");
    CHECK(loaded->tenants.at(0).limits == TenantLimits{});
}

TEST_CASE_FIXTURE(Folder, "a folder that isn't there is an error") {
    const auto saved = save_snapshot_file(*Snapshot::build(content()), folder + "/none/snapshot.json");
    REQUIRE_FALSE(saved.has_value());
    CHECK(saved.error().kind == ErrorKind::unavailable);
}
