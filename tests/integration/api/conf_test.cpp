// The files in conf/ and the manual are true: they load, they have every key, and what they call a default is one.
#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>

#include "catalog/config_loader.hpp"
#include "catalog/document.hpp"

using namespace pgporter;
namespace fs = std::filesystem;

namespace {

const fs::path root = PGPORTER_SOURCE_DIR;

std::string read(const fs::path& path) {
    std::ifstream in(path);
    REQUIRE(in.good());
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

// A folder with the files that the example names.
struct Folder {
    fs::path path;
    Folder() {
        std::string name = (fs::temp_directory_path() / "pgporter-conf-test-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
        for (const auto* file : {"admin-token", "mover-password", "catalog-password", "server.crt", "server.key", "tenants.crt",
                                 "tenants.key", "clients.crt", "clients.crl"}) {
            std::ofstream(path / file) << "0123456789abcdef-secret\n";
            fs::permissions(path / file, fs::perms::owner_read | fs::perms::owner_write);
        }
    }
    ~Folder() { fs::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
};

Config load(const std::string& yaml) {
    const Folder folder;
    auto config = parse_config(yaml, "pgporter.example.yaml", folder.path.string());
    if (!config) FAIL(config.error().message << " " << config.error().detail);
    return std::move(*config);
}

// The optional keys, too: "#key:", or "#" and an indented key; prose has one blank after the "#".
std::string with_optional_keys(const std::string& yaml) { return std::regex_replace(yaml, std::regex("\n#([^ \n]|  )"), "\n$1"); }

}  // namespace

TEST_CASE("the example configuration loads, and its values are the defaults") {
    const auto config = load(read(root / "conf/pgporter.example.yaml"));
    const Config defaults;
    const LimitsConfig& a = config.limits;
    const LimitsConfig& b = defaults.limits;
    CHECK(a.startup_packet_bytes_max == b.startup_packet_bytes_max);
    CHECK(a.login_ms_max == b.login_ms_max);
    CHECK(a.sessions_max == b.sessions_max);
    CHECK(a.logins_max == b.logins_max);
    CHECK(a.auth_message_bytes_max == b.auth_message_bytes_max);
    CHECK(a.statement_bytes_max == b.statement_bytes_max);
    CHECK(a.prepared_statements_max == b.prepared_statements_max);
    CHECK(a.own_types_tenants_max == b.own_types_tenants_max);
    CHECK(a.server_statements_max == b.server_statements_max);
    CHECK(a.unnamed_reuses_max == b.unnamed_reuses_max);
    CHECK(a.unnamed_reuse_ms_max == b.unnamed_reuse_ms_max);
    CHECK(a.pending_replies_max == b.pending_replies_max);
    CHECK(a.waiters_max == b.waiters_max);
    CHECK(a.wait_ms_max == b.wait_ms_max);
    CHECK(a.hold_wait_ms_max == b.hold_wait_ms_max);
    CHECK(a.hold_waiters_max == b.hold_waiters_max);
    CHECK(a.server_connect_ms_max == b.server_connect_ms_max);
    CHECK(a.server_idle_ms_max == b.server_idle_ms_max);
    CHECK(a.server_tenants_max == b.server_tenants_max);
    CHECK(a.server_lifetime_ms_max == b.server_lifetime_ms_max);
    CHECK(a.prologue_ms_max == b.prologue_ms_max);
    CHECK(a.client_write_ms_max == b.client_write_ms_max);
    CHECK(a.idle_in_transaction_ms_max == b.idle_in_transaction_ms_max);
    CHECK(a.cancel_ms_max == b.cancel_ms_max);
    CHECK(a.cancels_max == b.cancels_max);
    CHECK(a.shutdown_ms_max == b.shutdown_ms_max);
    CHECK(config.threads == defaults.threads);
    CHECK(config.metrics_tenants_max == defaults.metrics_tenants_max);
    CHECK(config.log_level == defaults.log_level);
    CHECK(config.admin.address == defaults.admin.address);
    CHECK(config.admin.port == defaults.admin.port);
    CHECK(config.admin.insecure_remote == defaults.admin.insecure_remote);
    CHECK(config.catalog.snapshot_file == defaults.catalog.snapshot_file);
    CHECK(config.catalog.resync_ms == defaults.catalog.resync_ms);
    CHECK(config.catalog.connect_timeout_ms == defaults.catalog.connect_timeout_ms);
}

TEST_CASE("the mover, listeners and ways of naming a tenant have their defaults in the example") {
    const auto config = load(read(root / "conf/pgporter.example.yaml"));
    const MoverConfig& a = config.mover;
    const MoverConfig b;
    CHECK(a.user == b.user);
    CHECK(a.maintenance_database == b.maintenance_database);
    CHECK(a.pg_dump == b.pg_dump);
    CHECK(a.pg_restore == b.pg_restore);
    CHECK(a.copy_jobs == b.copy_jobs);
    CHECK(a.moves_max == b.moves_max);
    CHECK(a.moves_per_source_max == b.moves_per_source_max);
    CHECK(a.queue_max == b.queue_max);
    CHECK(a.source_wal_mib_max == b.source_wal_mib_max);
    CHECK(a.target_mib_max == b.target_mib_max);
    CHECK(a.snapshot_age_ms_max == b.snapshot_age_ms_max);
    CHECK(a.catchup_window_ms == b.catchup_window_ms);
    CHECK(a.neighbour_latency_ratio_max == b.neighbour_latency_ratio_max);
    CHECK(a.throttled_percent_min == b.throttled_percent_min);
    CHECK(a.standby_lag_mib_max == b.standby_lag_mib_max);
    CHECK(a.copy_mib_per_s_max == b.copy_mib_per_s_max);
    CHECK(a.way_back_wal_mib_max == b.way_back_wal_mib_max);
    CHECK(a.restarts_max == b.restarts_max);
    CHECK(a.cutover_attempts_max == b.cutover_attempts_max);
    CHECK(a.pause_verify_rows_max == b.pause_verify_rows_max);
    CHECK(a.drain_ms_max == b.drain_ms_max);
    CHECK(a.hold_ms_max == b.hold_ms_max);
    CHECK(a.lock_timeout_ms == b.lock_timeout_ms);
    CHECK(a.connect_timeout_ms == b.connect_timeout_ms);
    REQUIRE(config.listen.size() == 1);
    const ListenConfig listener;
    CHECK(config.listen[0].address == listener.address);
    CHECK(config.listen[0].port == listener.port);
    CHECK(config.listen[0].tls == listener.tls);
    CHECK(config.listen[0].auth == listener.auth);
    CHECK(config.listen[0].proxy_protocol == listener.proxy_protocol);
    CHECK(config.listen[0].replication == listener.replication);
    CHECK(config.instance_id == Config{}.instance_id);
    CHECK(config.limits.logins_per_address_max == LimitsConfig{}.logins_per_address_max);
    CHECK(config.limits.auth_failures_max == LimitsConfig{}.auth_failures_max);
    CHECK(config.limits.auth_failure_window_ms == LimitsConfig{}.auth_failure_window_ms);
    CHECK(config.limits.auth_failure_addresses_max == LimitsConfig{}.auth_failure_addresses_max);
    CHECK(config.limits.cancel_forwards_max == LimitsConfig{}.cancel_forwards_max);
    CHECK(config.limits.proxy_header_bytes_max == LimitsConfig{}.proxy_header_bytes_max);
    const IdentifyConfig ways;
    CHECK(config.identify.options == ways.options);
    CHECK(config.identify.user_suffix == ways.user_suffix);
    CHECK(config.identify.database == ways.database);
    CHECK(config.identify.search_path == ways.search_path);
    CHECK(config.identify.sql == ways.sql);
    CHECK(config.identify.tenant_settings == ways.tenant_settings);
    REQUIRE(config.identify.json_settings.size() == ways.json_settings.size());
    CHECK(config.identify.json_settings[0].name == ways.json_settings[0].name);
    CHECK(config.identify.json_settings[0].path == ways.json_settings[0].path);
    CHECK(config.identify.json_settings[0].refuse_invalid == ways.json_settings[0].refuse_invalid);
    CHECK(config.identify.shared_schemas == ways.shared_schemas);
    CHECK(config.identify.sni_suffix == ways.sni_suffix);
    CHECK_FALSE(config.home.has_value());
    CHECK_FALSE(config.auth_query.has_value());
}

TEST_CASE("the example's optional keys load, too") {
    const auto config = load(with_optional_keys(read(root / "conf/pgporter.example.yaml")));
    REQUIRE(config.home.has_value());
    REQUIRE(config.auth_query.has_value());
    CHECK(config.auth_query->query == AuthQueryConfig{}.query);
    CHECK(config.auth_query->cache_ms == AuthQueryConfig{}.cache_ms);
    CHECK(config.auth_query->tenants == AuthQueryConfig{}.tenants);
    CHECK_FALSE(config.listen[0].tls_certificate_file.empty());
    CHECK_FALSE(config.listen[0].tls_key_file.empty());
    REQUIRE(config.listen.size() == 4);
    CHECK(config.listen[1].socket_permissions == ListenConfig{}.socket_permissions);
    CHECK(config.listen[2].proxy_protocol == ProxyProtocol::required);
    CHECK(config.peers.size() == 1);
    CHECK(config.listen[0].tls_protocols_min == TlsProtocol::tls12);
}

TEST_CASE("the examples name every key that the loaders know") {
    const auto check = [](const char* loader, const std::string& example, std::size_t keys_min = 20) {
        const auto source = read(root / loader);
        const std::regex key(R"re((?:text|texts|number|boolean|choice|milliseconds|mapping|list|node|free_texts|read_identifier|read_file_path)\((?:\*?inner, |\*?mapping, |pair, )?"([a-z_]+)")re");
        std::size_t keys = 0;
        for (std::sregex_iterator it(source.begin(), source.end(), key), end; it != end; ++it, ++keys) {
            const auto name = (*it)[1].str();
            CAPTURE(name);
            CHECK(std::regex_search(example, std::regex("(^|[\n {#-])" + name + ":")));
        }
        CHECK(keys > keys_min);
    };
    check("catalog/config_loader.cpp", read(root / "conf/pgporter.example.yaml"));
    check("catalog/listener_keys.cpp", read(root / "conf/pgporter.example.yaml"), 10);
    check("catalog/tls_keys.cpp", read(root / "conf/pgporter.example.yaml"), 8);
    check("catalog/document.cpp", read(root / "conf/tenants.example.yaml"));
}

TEST_CASE("the example document loads, with and without its optional keys") {
    const auto yaml = read(root / "conf/tenants.example.yaml");
    const auto document = parse_catalog_document(yaml, "tenants.example.yaml");
    if (!document) FAIL(document.error().message << " " << document.error().detail);
    const auto with_all = parse_catalog_document(with_optional_keys(yaml), "tenants.example.yaml");
    if (!with_all) FAIL(with_all.error().message << " " << with_all.error().detail);
    CHECK(document->tenants[0].role.empty());
    CHECK(with_all->tenants[0].role == "acme");
    CHECK(document->clusters.size() == 2);
    CHECK(document->databases.size() == 2);
    CHECK(with_all->databases[0].tenant_setting == "app.tenant");
    CHECK(with_all->tenants[0].allowed_addresses.size() == 1);
    CHECK(document->users.size() == 2);
    CHECK(document->tenants.size() == 3);
}

TEST_CASE("the metrics that the manual and the alerts name are made somewhere, and every one that is made is in the manual") {
    std::string code;
    for (const auto* folder : {"base", "catalog", "router", "proxy", "admin"}) {
        for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
            if (entry.path().extension() == ".cpp" || entry.path().extension() == ".hpp") code += read(entry.path());
        }
    }
    const auto manual = read(root / "docs/operations.md");
    const std::regex named(R"(\b(pgporter_[a-z_]*[a-z])\b)");
    const auto alerts = read(root / "conf/prometheus-rules.yaml");
    for (const auto& text : {manual, alerts}) {
        for (std::sregex_iterator it(text.begin(), text.end(), named), end; it != end; ++it) {
            auto name = (*it)[1].str();
            if (name.ends_with("_bucket")) name.resize(name.size() - 7);
            if (name == "pgporter_catalog" || name == "pgporter_mover") continue;  // names in examples
            CAPTURE(name);
            CHECK(code.find("\"" + name + "\"") != std::string::npos);
        }
    }
    const std::regex made(R"re((?:counter|gauge|histogram|one_value)\(\s*"(pgporter_[a-z_]+)")re");
    std::size_t metrics = 0;
    for (std::sregex_iterator it(code.begin(), code.end(), made), end; it != end; ++it, ++metrics) {
        const auto name = (*it)[1].str();
        CAPTURE(name);
        CHECK(std::regex_search(manual, std::regex("\\b" + name + "\\b")));
    }
    CHECK(metrics > 25);
}
