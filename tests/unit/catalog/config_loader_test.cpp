#include "catalog/config_loader.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/log.hpp"

using namespace pgporter;

namespace {

// A folder with the files that a configuration may name.
class ConfigFolder {
  public:
    ConfigFolder() {
        std::string path = (std::filesystem::temp_directory_path() / "pgporter-config-XXXXXX").string();
        REQUIRE(::mkdtemp(path.data()) != nullptr);
        folder = path;
        write("token", "0123456789abcdef-token\r\nsecond line\n");
        write("short", "0123456789\n");
        write("empty", "\n");
        write("pw", "s3cret\n");
        write("cert.pem", "x");
        write("key.pem", "x");
        ::setenv("PGPORTER_TEST_TOKEN", "an-environment-token", 1);
        ::unsetenv("PGPORTER_TEST_UNSET");
    }
    ~ConfigFolder() { std::filesystem::remove_all(folder); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(folder + "/" + name) << text;
        ::chmod((folder + "/" + name).c_str(), 0600);
    }
    [[nodiscard]] Result<Config> parse(const std::string& yaml) const {
        return parse_config(yaml, "pgporter.yaml", folder);
    }

    std::string folder;
};

// Two lines that every configuration needs; what a test is about comes after them.
const std::string base = "catalog: {dsn: 'host=127.0.0.1 dbname=catalog'}\nadmin: {token_file: token}\n";

}  // namespace

TEST_CASE_FIXTURE(ConfigFolder, "a small configuration has every default") {
    const auto config = parse(base);
    REQUIRE(config.has_value());
    REQUIRE(config->listen.size() == 1);
    CHECK(config->listen[0].address == "127.0.0.1");
    CHECK(config->listen[0].port == 6432);
    CHECK(config->listen[0].auth == ClientAuth::scram);
    CHECK(config->threads == 1);
    CHECK(config->admin.token.equals("0123456789abcdef-token"));  // the first line, without its end
    CHECK(config->catalog.password.empty());
    CHECK_FALSE(config->home.has_value());
    CHECK_FALSE(config->auth_query.has_value());
    CHECK(config->limits.sessions_max == 10'000);
    CHECK(config->log_level == "info");
}

TEST_CASE_FIXTURE(ConfigFolder, "every section is read") {
    const auto config = parse(R"yaml(
listen:
  - {address: 127.0.0.1, port: 7001, auth: trust}
  - {address: "::1", port: 7002, tls: require, tls_certificate_file: cert.pem, tls_key_file: key.pem}
threads: 4
identify: {options: false, user_suffix: true, database: false, search_path: true}
home: {cluster: main, database: home}
auth_query: {cluster: main, database: app, user: lookup, cache_ms: 5, tenants: all}
server_logins:
  - {cluster: main, user: app, password: inline}
  - {user: "*", password_file: pw}
  - {user: envy, password_env: PGPORTER_TEST_TOKEN}
admin: {address: 0.0.0.0, port: 7003, token_env: PGPORTER_TEST_TOKEN, insecure_remote: true}
catalog:
  {dsn: "postgresql://porter@127.0.0.1/catalog", password_file: pw, snapshot_file: state/snapshot.json, resync_ms: 1000,
   connect_timeout_ms: 700}
mover: {user: mover, copy_jobs: 3, hold_ms_max: 800, drain_ms_max: 100}
limits: {sessions_max: 7, idle_in_transaction_ms_max: 0, hold_wait_ms_max: 900}
metrics: {tenants_max: 5}
log: {level: debug}
)yaml");
    if (!config) FAIL(config.error().message);
    REQUIRE(config->listen.size() == 2);
    CHECK(config->listen[0].auth == ClientAuth::trust);
    CHECK(config->listen[1].tls == ClientTls::require);
    CHECK(config->listen[1].tls_key_file == folder + "/key.pem");
    CHECK(config->threads == 4);
    CHECK_FALSE(config->identify.options);
    CHECK(config->identify.user_suffix);
    CHECK(config->home->database == "home");
    CHECK(config->auth_query->cache_ms == Milliseconds{5});
    CHECK(config->auth_query->tenants == AuthQueryTenants::all);
    REQUIRE(config->server_logins.size() == 3);
    CHECK(config->server_logins[0].password.equals("inline"));
    CHECK(config->server_logins[1].cluster == "*");
    CHECK(config->server_logins[1].password.equals("s3cret"));
    CHECK(config->server_logins[2].password.equals("an-environment-token"));
    CHECK(config->admin.insecure_remote);
    CHECK(config->catalog.snapshot_file == folder + "/state/snapshot.json");
    CHECK(config->catalog.resync_ms == Milliseconds{1'000});
    CHECK(config->mover.copy_jobs == 3);
    CHECK(config->limits.sessions_max == 7);
    CHECK(config->metrics_tenants_max == 5);
    CHECK(config->log_level == "debug");
}

TEST_CASE_FIXTURE(ConfigFolder, "naming in SQL: defaults stay where nothing is said, and lists replace them") {
    const auto defaults = parse(base);
    REQUIRE(defaults.has_value());
    CHECK(defaults->identify.sql);
    CHECK(defaults->identify.tenant_settings.size() == IdentifyConfig{}.tenant_settings.size());
    CHECK(defaults->identify.json_settings.size() == 1);
    CHECK(defaults->identify.sni_suffix.empty());
    const auto config = parse(base + R"yaml(
identify:
  sql: false
  tenant_settings: [my.tenant]
  json_settings: [{name: request.jwt.claims, path: tenant}, {name: my.claims, path: a.b.c, refuse_invalid: false}]
  shared_schemas: []
  sni_suffix: DB.Example.com
)yaml");
    if (!config) FAIL(config.error().message);
    CHECK_FALSE(config->identify.sql);
    CHECK(config->identify.tenant_settings == std::vector<std::string>{"my.tenant"});
    REQUIRE(config->identify.json_settings.size() == 2);
    CHECK(config->identify.json_settings[1].name == "my.claims");
    CHECK(config->identify.json_settings[1].path == "a.b.c");
    CHECK(config->identify.json_settings[0].refuse_invalid);
    CHECK_FALSE(config->identify.json_settings[1].refuse_invalid);
    CHECK(config->identify.shared_schemas.empty());
    CHECK(config->identify.sni_suffix == "db.example.com");
    const auto none = parse(base + "identify: {json_settings: []}");
    REQUIRE(none.has_value());
    CHECK(none->identify.json_settings.empty());
}

TEST_CASE_FIXTURE(ConfigFolder, "errors name file, line and key") {
    struct Row {
        std::string yaml;  // after the two lines of `base`, so its first line is line 3
        const char* message;
    };
    const Row rows[] = {
        {"limits: {sesions_max: 5}", "pgporter.yaml:3: limits.sesions_max: unknown key; did you mean sessions_max?"},
        {"zzzzzz: 1", "pgporter.yaml:3: zzzzzz: unknown key"},
        {"identify: {tenant_settings: [tenant]}",
         "pgporter.yaml:3: identify.tenant_settings: has a name that isn't a run-time parameter's of your own, with a dot (app.tenant)"},
        {"identify: {tenant_settings: [pgporter.tenant]}",
         "pgporter.yaml:3: identify.tenant_settings: must not have pgporter.*: pgporter.tenant always names a tenant"},
        {"identify: {tenant_settings: [a.b, A.b]}", "pgporter.yaml:3: identify.tenant_settings: has a name twice, in different case"},
        {"identify:\n  json_settings:\n  - {name: a.b}", "pgporter.yaml:5: identify.json_settings[0].path: is missing"},
        {"identify:\n  json_settings:\n  - {name: a.b, path: x..y}",
         "pgporter.yaml:5: identify.json_settings[0].path: must be keys with dots between them (app_metadata.tenant_id)"},
        {"identify:\n  json_settings:\n  - {name: app.tenant, path: x}",
         "pgporter.yaml:5: identify.json_settings[0].name: names a tenant in another way already"},
        {"identify: {sni_suffix: .example.com}",
         "pgporter.yaml:3: identify.sni_suffix: must be a host name without a dot at either end (db.example.com)"},
        {"limits:\n  waiters_max: many", "pgporter.yaml:4: limits.waiters_max: must be a whole number"},
        {"limits: {waiters_max: 1.5}", "pgporter.yaml:3: limits.waiters_max: must be a whole number"},
        {"limits: {waiters_max: -1}", "pgporter.yaml:3: limits.waiters_max: must be a whole number"},
        {"limits: {waiters_max: 0}", "pgporter.yaml:3: limits.waiters_max: must be between 1 and 10000000"},
        {"limits: {waiters_max: 99999999999999999999999}",
         "pgporter.yaml:3: limits.waiters_max: must be between 1 and 10000000"},
        {"limits: {wait_ms_max: 5s}", "pgporter.yaml:3: limits.wait_ms_max: must be a whole number"},
        {"limits: {wait_ms_max: }", "pgporter.yaml:3: limits.wait_ms_max: has no value"},
        {"limits: [1]", "pgporter.yaml:3: limits: must be a mapping (key: value)"},
        {"threads: 0", "pgporter.yaml:3: threads: must be between 1 and 256"},
        {"threads: 1\nthreads: 2", "pgporter.yaml:4: threads: is given twice"},
        {"identify: {options: yes}", "pgporter.yaml:3: identify.options: must be true or false"},
        {"log: {level: loud}", "pgporter.yaml:3: log.level: must be one of: debug, info, warning, error"},
        {"home: {cluster: main}", "pgporter.yaml:3: home.database: is missing"},
        {"auth_query: {cluster: c, database: d, user: u, query: SELECT 1}",
         "pgporter.yaml:3: auth_query.query: must name the user as its parameter $1"},
        {"listen: []", "pgporter.yaml:3: listen: needs at least one entry"},
        {"listen:\n- {port: 0}", "pgporter.yaml:4: listen[0].port: must be between 1 and 65535"},
        {"listen:\n- {port: 1}\n- {address: localhost}",
         "pgporter.yaml:5: listen[1].address: must be a numeric IPv4 or IPv6 address"},
        {"listen:\n- {port: 1}\n- {port: 1}", "pgporter.yaml:5: listen[1].port: 127.0.0.1 port 1 is listened on twice"},
        {"listen:\n- {tls: allow}", "pgporter.yaml:4: listen[0].tls: needs tls_certificate_file"},
        {"listen:\n- {tls: require, tls_certificate_file: cert.pem}",
         "pgporter.yaml:4: listen[0].tls: needs tls_key_file"},
        {"listen:\n- {address: 0.0.0.0, auth: trust}",
         "pgporter.yaml:4: listen[0].auth: trust lets anybody who reaches 0.0.0.0 speak for every tenant; it is "
         "allowed on loopback addresses only"},
        {"server_logins:\n- {user: a}",
         "pgporter.yaml:4: server_logins[0].password_file: is missing: give one of password, password_file or "
         "password_env"},
        {"server_logins:\n- {user: a, password: b, password_env: c}",
         "pgporter.yaml:4: server_logins[0].password_env: contradicts password: give exactly one of password, "
         "password_file or password_env"},
        {"server_logins:\n- {user: a, password_env: PGPORTER_TEST_UNSET}",
         "pgporter.yaml:4: server_logins[0].password_env: the environment variable PGPORTER_TEST_UNSET is not set"},
        {"mover: {drain_ms_max: 900, hold_ms_max: 800}",
         "pgporter.yaml:3: mover.drain_ms_max: is longer than hold_ms_max: the hold would end before the drain"},
        {"mover: {hold_ms_max: 20000}",
         "pgporter.yaml:3: mover: mover.hold_ms_max is longer than limits.hold_wait_ms_max: a move would fail the "
         "transactions it holds"},
        {"a: [b", "pgporter.yaml:3: end of sequence flow not found"},
        {"---\na: 1", "pgporter.yaml:4: a second document begins here; only one is read"},
        {"x: &a [*a]", "pgporter.yaml:3: x: unknown key"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.yaml);
        const auto config = parse(base + row.yaml);
        REQUIRE_FALSE(config.has_value());
        CHECK(config.error().kind == ErrorKind::invalid);
        if (row.yaml.starts_with("x: &a")) continue;  // any error will do: what matters is that it ends
        CHECK(config.error().message == row.message);
    }
}

TEST_CASE_FIXTURE(ConfigFolder, "admin and catalog are strict") {
    const std::string catalog = "catalog: {dsn: 'host=127.0.0.1'}\n";
    const std::pair<std::string, std::string> rows[] = {
        {"", "pgporter.yaml:1: admin: is missing: it needs at least token_file or token_env"},
        {"admin: {port: 1}", "pgporter.yaml:2: admin.token_file: is missing: give one of token_file or token_env"},
        {"admin: {token: inline-token-of-length}",
         "pgporter.yaml:2: admin.token: unknown key; did you mean token_env?"},
        {"admin: {token_file: short}", "pgporter.yaml:2: admin.token_file: the token must have at least 16 characters"},
        {"admin: {token_file: empty}",
         "pgporter.yaml:2: admin.token_file: the first line of " + folder + "/empty is empty"},
        {"admin: {token_file: none}", "pgporter.yaml:2: admin.token_file: the file " + folder + "/none can't be read"},
        {"admin: {token_file: token, address: 0.0.0.0}",
         "pgporter.yaml:2: admin.address: is no loopback address, and the admin interface has no TLS: put a proxy with "
         "TLS in front of it, or say "
         "insecure_remote: true"},
    };
    for (const auto& [yaml, message] : rows) {
        CAPTURE(yaml);
        const auto config = parse(catalog + yaml);
        REQUIRE_FALSE(config.has_value());
        if (yaml == "admin: {token: inline-token-of-length}") {
            CHECK(config.error().detail.find("admin.token: unknown key") != std::string::npos);
        } else {
            CHECK(config.error().message == message);
        }
    }
    for (const std::string dsn : {"host=127.0.0.1 password=hunter22", "postgresql://u:hunter22@127.0.0.1/x",
                                  "postgresql://u:hunter22@127.0.0.1:port/x"}) {
        const auto config = parse("admin: {token_file: token}\ncatalog: {dsn: '" + dsn + "'}");
        REQUIRE_FALSE(config.has_value());
        CHECK(config.error().message.starts_with("pgporter.yaml:2: catalog.dsn: "));
        CHECK((config.error().message + config.error().detail).find("hunter22") == std::string::npos);
    }
}

TEST_CASE_FIXTURE(ConfigFolder, "all problems are told, the first one first") {
    const auto config = parse(base + "threads: 0\nlimits: {sessions_max: x}\nzzzzzz: 1");
    REQUIRE_FALSE(config.has_value());
    CHECK(config.error().message.starts_with("pgporter.yaml:3: "));
    CHECK(config.error().detail.find("pgporter.yaml:4: limits.sessions_max") != std::string::npos);
    CHECK(config.error().detail.find("pgporter.yaml:5: zzzzzz") != std::string::npos);
}

TEST_CASE_FIXTURE(ConfigFolder, "a secret file that others can read is a warning") {
    std::string lines;
    log::set_sink([&](log::Level, const std::string& line) { lines += line + "\n"; });
    CHECK(parse(base).has_value());
    CHECK(lines.empty());
    ::chmod((folder + "/token").c_str(), 0644);
    CHECK(parse(base).has_value());
    log::set_sink(nullptr);
    CHECK(lines.starts_with("secret_file_readable_by_others key=admin.token_file"));
    CHECK(lines.find("0123456789abcdef") == std::string::npos);
}

TEST_CASE_FIXTURE(ConfigFolder, "aliases can't blow a short file up") {
    std::string yaml = base + "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (int i = 1; i < 9; ++i) {
        const std::string before = "*a" + std::to_string(i - 1);
        yaml += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
        for (int j = 0; j < 10; ++j) yaml += (j == 0 ? "" : ", ") + before;
        yaml += "]\n";
    }
    const auto config = parse(yaml);
    REQUIRE_FALSE(config.has_value());
    CHECK(config.error().message.find("has more than 100000 values") != std::string::npos);
}

TEST_CASE_FIXTURE(ConfigFolder, "load_config reads relative to the file, and a missing file is its own error") {
    write("pgporter.yaml", base);
    CHECK(load_config(folder + "/pgporter.yaml").has_value());
    CHECK(load_config(folder + "/other.yaml").error().kind == ErrorKind::not_found);
    CHECK(load_config(folder).error().kind == ErrorKind::not_found);
    CHECK_FALSE(load_config(folder + "/empty").has_value());
}

TEST_CASE_FIXTURE(ConfigFolder, "listeners on Unix-domain sockets and behind load balancers") {
    const auto config = parse(base +
                              "listen:\n- {socket_directory: /run/pgporter, port: 6432, socket_permissions: 0770, auth: trust}\n"
                              "- {address: 10.0.0.1, port: 6432, proxy_protocol: required, proxy_protocol_from: [10.0.0.0/8, '2001:db8::/32']}\n"
                              "- {address: 10.0.0.1, port: 6433, replication: true}\n");
    REQUIRE(config.has_value());
    CHECK(config->listen[0].is_local_socket());
    CHECK(config->listen[0].socket_permissions == 0770);
    CHECK(config->listen[1].proxy_protocol == ProxyProtocol::required);
    CHECK(config->listen[1].proxy_protocol_from.size() == 2);
    CHECK_FALSE(config->listen[1].replication);
    CHECK(config->listen[2].replication);
}

TEST_CASE_FIXTURE(ConfigFolder, "listeners that can't be meant") {
    for (const char* listener : {"{socket_directory: run}", "{socket_directory: /run, address: 127.0.0.1}", "{socket_directory: /run, tls: allow}",
                                 "{socket_directory: /run, socket_permissions: 0888}", "{socket_directory: /run, socket_permissions: 7777}",
                                 "{socket_permissions: 0770}", "{proxy_protocol: v1}", "{proxy_protocol_from: [10.0.0.0/8]}",
                                 "{proxy_protocol: required, proxy_protocol_from: [10.0.0.1/8]}", "{proxy_protocol: required, auth: trust}"}) {
        CAPTURE(listener);
        CHECK_FALSE(parse(base + "listen: [" + listener + "]\n").has_value());
    }
    CHECK_FALSE(parse(base + "listen: [{socket_directory: /run, port: 6432}, {socket_directory: /run, port: 6432}]\n").has_value());
    CHECK(parse(base + "listen: [{socket_directory: /run, port: 6432}, {address: 127.0.0.1, port: 6432}]\n").has_value());
}

TEST_CASE_FIXTURE(ConfigFolder, "other instances") {
    const auto config = parse(base + "instance_id: 3\npeers: [{id: 4, address: 10.0.0.2}, {id: 255, address: '2001:db8::1', port: 7000}]\n");
    REQUIRE(config.has_value());
    CHECK(config->instance_id == 3);
    REQUIRE(config->peers.size() == 2);
    CHECK(config->peers[0].port == 6432);
    CHECK(config->peers[1].id == 255);
    for (const char* wrong : {"peers: [{id: 4, address: 10.0.0.2}]", "instance_id: 0", "instance_id: 256",
                              "instance_id: 4\npeers: [{id: 4, address: 10.0.0.2}]",
                              "instance_id: 4\npeers: [{id: 5, address: elsewhere}]", "instance_id: 4\npeers: [{id: 5}]",
                              "instance_id: 4\npeers: [{id: 5, address: 10.0.0.2}, {id: 5, address: 10.0.0.3}]"}) {
        CAPTURE(wrong);
        CHECK_FALSE(parse(base + wrong).has_value());
    }
}
