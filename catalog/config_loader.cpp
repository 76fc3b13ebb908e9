#include "catalog/config_loader.hpp"

#include <arpa/inet.h>
#include <libpq-fe.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>

#include "catalog/host_name.hpp"
#include "catalog/listener_keys.hpp"
#include "catalog/secret_source.hpp"
#include "catalog/setting_name.hpp"
#include "catalog/tls_keys.hpp"
#include "catalog/yaml_reader.hpp"

namespace pgporter {
namespace {

constexpr std::int64_t day_ms = 86'400'000;
constexpr std::int64_t hour_ms = 3'600'000;
constexpr std::size_t identifier_bytes_max = 63;
constexpr std::size_t identify_settings_max = 100;  // each SET is looked up in them

enum class AddressKind { not_numeric, loopback, other };

AddressKind kind_of_address(const std::string& address) {
    in_addr v4{};
    if (inet_pton(AF_INET, address.c_str(), &v4) == 1) {
        return (ntohl(v4.s_addr) >> 24) == 127 ? AddressKind::loopback : AddressKind::other;
    }
    in6_addr v6{};
    if (inet_pton(AF_INET6, address.c_str(), &v6) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&v6) ? AddressKind::loopback : AddressKind::other;
    }
    return AddressKind::not_numeric;
}

void read_address(YamlMapping& mapping, std::string& address, std::uint16_t& port) {
    mapping.text("address", address);
    mapping.number("port", port, 1, 65'535);
    if (kind_of_address(address) == AddressKind::not_numeric) {
        mapping.problem("address", "must be a numeric IPv4 or IPv6 address");
    }
}

ListenConfig read_listener(YamlMapping mapping, const std::string& directory) {
    ListenConfig listener;
    read_address(mapping, listener.address, listener.port);
    read_listener_doors(mapping, listener);
    mapping.choice("tls", listener.tls,
                   {{"disable", ClientTls::disable}, {"allow", ClientTls::allow}, {"require", ClientTls::require}});
    read_listener_tls(mapping, directory, listener);
    if (listener.tls != ClientTls::disable) {
        if (!mapping.has("tls_certificate_file")) mapping.problem("tls", "needs tls_certificate_file");
        if (!mapping.has("tls_key_file")) mapping.problem("tls", "needs tls_key_file");
    }
    if (listener.auth == ClientAuth::trust && !listener.is_local_socket() && kind_of_address(listener.address) == AddressKind::other) {
        mapping.problem("auth", "trust lets anybody who reaches " + listener.address +
                                    " speak for every tenant; it is allowed on loopback addresses only");
    }
    if (listener.auth == ClientAuth::peer && !listener.is_local_socket()) {
        mapping.problem("auth", "peer asks the operating system who connects, which only Unix-domain sockets can tell: it needs socket_directory");
    }
    mapping.finish();
    return listener;
}

void read_listeners(YamlMapping& top, YamlProblems& problems, const std::string& directory, Config& config) {
    if (!top.has("listen")) {
        (void)top.list("listen");  // makes it a known key
        config.listen.emplace_back();
        return;
    }
    std::set<std::pair<std::string, std::uint16_t>> seen;  // an address can't be mistaken for a directory
    const auto items = top.list("listen");
    for (const auto& item : items) {
        YamlMapping mapping(problems, item.node, item.path);
        config.listen.push_back(read_listener(mapping, directory));
        const auto& listener = config.listen.back();
        const std::string& where = listener.is_local_socket() ? listener.socket_directory : listener.address;
        if (!seen.emplace(where, listener.port).second) {
            mapping.problem("port", where + " port " + std::to_string(listener.port) + " is listened on twice");
        }
    }
    if (items.empty()) top.problem("listen", "needs at least one entry");
}

// A parameter that names tenants must mean nothing to PostgreSQL itself, and pgporter.* is the proxy's own.
const char* trouble_with_setting(const std::string& name) {
    if (!is_custom_setting_name(name)) return "has a name that isn't a run-time parameter's of your own, with a dot (app.tenant)";
    if (folded_setting_name(name).starts_with("pgporter.")) return "must not have pgporter.*: pgporter.tenant always names a tenant";
    return nullptr;
}

void read_tenant_settings(YamlMapping& mapping, IdentifyConfig& identify) {
    mapping.texts("tenant_settings", identify.tenant_settings);
    if (identify.tenant_settings.size() > identify_settings_max) {
        mapping.problem("tenant_settings", "are more than " + std::to_string(identify_settings_max));
    }
    std::set<std::string> seen;
    for (const auto& name : identify.tenant_settings) {
        if (const char* trouble = trouble_with_setting(name)) mapping.problem("tenant_settings", trouble);
        if (!seen.insert(folded_setting_name(name)).second) mapping.problem("tenant_settings", "has a name twice, in different case");
    }
}

// Keys separated by dots, none empty.
bool is_json_path(std::string_view path) {
    return !path.empty() && path.front() != '.' && path.back() != '.' && path.find("..") == std::string_view::npos;
}

void read_json_settings(YamlMapping& mapping, YamlProblems& problems, IdentifyConfig& identify) {
    const bool given = mapping.has("json_settings");
    const auto items = mapping.list("json_settings");
    if (!given) return;
    identify.json_settings.clear();
    std::set<std::string> seen;
    for (const auto& name : identify.tenant_settings) seen.insert(folded_setting_name(name));
    for (const auto& item : items) {
        YamlMapping inner(problems, item.node, item.path);
        auto& setting = identify.json_settings.emplace_back(JsonSetting{{}, {}});
        inner.require({"name", "path"});
        inner.text("name", setting.name);
        inner.text("path", setting.path);
        inner.boolean("refuse_invalid", setting.refuse_invalid);
        if (!setting.name.empty()) {
            if (const char* trouble = trouble_with_setting(setting.name)) inner.problem("name", trouble);
            if (!seen.insert(folded_setting_name(setting.name)).second) inner.problem("name", "names a tenant in another way already");
        }
        if (!setting.path.empty() && !is_json_path(setting.path)) {
            inner.problem("path", "must be keys with dots between them (app_metadata.tenant_id)");
        }
        inner.finish();
    }
    if (items.size() > identify_settings_max) mapping.problem("json_settings", "are more than " + std::to_string(identify_settings_max));
}

void read_identify(YamlMapping& top, YamlProblems& problems, Config& config) {
    auto mapping = top.mapping("identify");
    if (!mapping) return;
    mapping->boolean("options", config.identify.options);
    mapping->boolean("user_suffix", config.identify.user_suffix);
    mapping->boolean("database", config.identify.database);
    mapping->boolean("search_path", config.identify.search_path);
    mapping->boolean("sql", config.identify.sql);
    read_tenant_settings(*mapping, config.identify);
    read_json_settings(*mapping, problems, config.identify);
    mapping->texts("shared_schemas", config.identify.shared_schemas);
    for (const auto& schema : config.identify.shared_schemas) {
        if (schema.size() > identifier_bytes_max) mapping->problem("shared_schemas", "has a name longer than 63 bytes");
    }
    mapping->text("sni_suffix", config.identify.sni_suffix);
    config.identify.sni_suffix = folded_setting_name(config.identify.sni_suffix);
    if (!config.identify.sni_suffix.empty() && !is_host_name(config.identify.sni_suffix)) {
        mapping->problem("sni_suffix", "must be a host name without a dot at either end (db.example.com)");
    }
    mapping->finish();
}

void read_home(YamlMapping& top, Config& config) {
    auto mapping = top.mapping("home");
    if (!mapping) return;
    auto& home = config.home.emplace();
    mapping->require({"cluster", "database"});
    mapping->text("cluster", home.cluster);
    mapping->text("database", home.database);
    mapping->finish();
}

void read_auth_query(YamlMapping& top, Config& config) {
    auto mapping = top.mapping("auth_query");
    if (!mapping) return;
    auto& auth_query = config.auth_query.emplace();
    mapping->require({"cluster", "database", "user"});
    mapping->text("cluster", auth_query.cluster);
    mapping->text("database", auth_query.database);
    mapping->text("user", auth_query.user);
    mapping->text("query", auth_query.query);
    mapping->milliseconds("cache_ms", auth_query.cache_ms, 0, day_ms);
    mapping->choice("tenants", auth_query.tenants, {{"none", AuthQueryTenants::none}, {"all", AuthQueryTenants::all}});
    if (auth_query.query.find("$1") == std::string::npos) {
        mapping->problem("query", "must name the user as its parameter $1");
    }
    mapping->finish();
}

void read_server_logins(YamlMapping& top, YamlProblems& problems, const std::string& directory, Config& config) {
    for (const auto& item : top.list("server_logins")) {
        YamlMapping mapping(problems, item.node, item.path);
        auto& login = config.server_logins.emplace_back();
        mapping.require({"user"});
        mapping.text("cluster", login.cluster);
        mapping.text("user", login.user);
        login.password = read_secret(mapping, "password", {.inline_allowed = true, .required = true}, directory);
        mapping.finish();
    }
}

void read_admin(YamlMapping& top, const std::string& directory, Config& config) {
    auto mapping = top.mapping("admin");
    if (!mapping) return top.problem("admin", "is missing: it needs at least token_file or token_env");
    constexpr std::size_t token_length_min = 16;
    auto& admin = config.admin;
    read_address(*mapping, admin.address, admin.port);
    mapping->boolean("insecure_remote", admin.insecure_remote);
    admin.token = read_secret(*mapping, "token", {.inline_allowed = false, .required = true}, directory);
    if (!admin.token.empty() && admin.token.reveal().size() < token_length_min) {
        const std::string_view key = mapping->has("token_file") ? "token_file" : "token_env";
        mapping->problem(key, "the token must have at least " + std::to_string(token_length_min) + " characters");
    }
    if (kind_of_address(admin.address) == AddressKind::other && !admin.insecure_remote) {
        mapping->problem("address",
                         "is no loopback address, and the admin interface has no TLS: put a proxy with TLS in "
                         "front of it, or say insecure_remote: true");
    }
    mapping->finish();
}

// libpq's own reader says whether the string is one; its message isn't shown, because it may quote a password.
void check_dsn(YamlMapping& mapping, const std::string& dsn) {
    char* message = nullptr;
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(PQconninfoParse(dsn.c_str(), &message),
                                                                               &PQconninfoFree);
    if (message != nullptr) PQfreemem(message);
    if (options == nullptr)
        return mapping.problem("dsn", "is no libpq connection string (key=value ... or postgresql://...)");
    for (const auto* option = options.get(); option->keyword != nullptr; ++option) {
        const std::string_view keyword = option->keyword;
        if (option->val == nullptr || (keyword != "password" && keyword != "sslpassword")) continue;
        mapping.problem("dsn", "must not contain a " + std::string(keyword) + ": use password_file or password_env");
    }
}

void read_catalog(YamlMapping& top, const std::string& directory, Config& config) {
    auto mapping = top.mapping("catalog");
    if (!mapping) return top.problem("catalog", "is missing: it needs at least dsn");
    auto& catalog = config.catalog;
    mapping->require({"dsn"});
    mapping->text("dsn", catalog.dsn);
    if (!catalog.dsn.empty()) check_dsn(*mapping, catalog.dsn);
    catalog.password = read_secret(*mapping, "password", {.inline_allowed = false, .required = false}, directory);
    mapping->text("snapshot_file", catalog.snapshot_file);
    catalog.snapshot_file = resolve_path(catalog.snapshot_file, directory);
    mapping->milliseconds("resync_ms", catalog.resync_ms, 100, day_ms);
    mapping->milliseconds("connect_timeout_ms", catalog.connect_timeout_ms, 100, 600'000);
    mapping->finish();
}

void read_mover(YamlMapping& top, Config& config) {
    auto mapping = top.mapping("mover");
    if (!mapping) return;
    auto& mover = config.mover;
    mapping->text("user", mover.user);
    mapping->text("maintenance_database", mover.maintenance_database);
    mapping->text("pg_dump", mover.pg_dump);
    mapping->text("pg_restore", mover.pg_restore);
    mapping->number("copy_jobs", mover.copy_jobs, 1, 64);
    mapping->number("index_memory_mib", mover.index_memory_mib, 1, 1'048'576);
    mapping->number("copy_piece_mib", mover.copy_piece_mib, 1, 1'048'576);
    mapping->number("moves_max", mover.moves_max, 1, 64);
    mapping->number("moves_per_source_max", mover.moves_per_source_max, 1, 64);
    mapping->number("queue_max", mover.queue_max, 0, 100'000);
    mapping->number("cutover_attempts_max", mover.cutover_attempts_max, 1, 10'000);
    mapping->number("restarts_max", mover.restarts_max, 0, 1'000);
    mapping->number("pause_verify_rows_max", mover.pause_verify_rows_max, 0, 10'000'000);
    mapping->number("source_wal_mib_max", mover.source_wal_mib_max, 1, 4'194'304);
    mapping->number("target_mib_max", mover.target_mib_max, 0, 1'073'741'824);
    mapping->milliseconds("snapshot_age_ms_max", mover.snapshot_age_ms_max, 100, 30 * day_ms);
    mapping->milliseconds("catchup_window_ms", mover.catchup_window_ms, 100, hour_ms);
    mapping->real("neighbour_latency_ratio_max", mover.neighbour_latency_ratio_max, 0, 1'000);
    mapping->number("throttled_percent_min", mover.throttled_percent_min, 1, 100);
    mapping->number("standby_lag_mib_max", mover.standby_lag_mib_max, 0, 4'194'304);
    mapping->number("copy_mib_per_s_max", mover.copy_mib_per_s_max, 0, 1'000'000);
    mapping->number("way_back_wal_mib_max", mover.way_back_wal_mib_max, 1, 4'194'304);
    mapping->number("reserved_ids", mover.reserved_ids, 10, 1'000'000'000);
    mapping->milliseconds("drain_ms_max", mover.drain_ms_max, 1, 600'000);
    mapping->milliseconds("hold_ms_max", mover.hold_ms_max, 10, 600'000);
    mapping->milliseconds("lock_timeout_ms", mover.lock_timeout_ms, 1, 600'000);
    mapping->milliseconds("connect_timeout_ms", mover.connect_timeout_ms, 100, 600'000);
    mapping->milliseconds("slot_ms_max", mover.slot_ms_max, 100, 3'600'000);
    mapping->milliseconds("late_writer_ms", mover.late_writer_ms, 100, 3'600'000);
    mapping->milliseconds("instance_silent_ms_max", mover.instance_silent_ms_max, 100, 600'000);
    if (mover.drain_ms_max > mover.hold_ms_max) {
        mapping->problem("drain_ms_max", "is longer than hold_ms_max: the hold would end before the drain");
    }
    mapping->finish();
}

void read_overload_limits(YamlMapping& mapping, LimitsConfig& limits) {
    mapping.milliseconds("client_read_ms_max", limits.client_read_ms_max, 10, day_ms);
    mapping.milliseconds("client_silent_ms_max", limits.client_silent_ms_max, 0, day_ms);
    mapping.milliseconds("server_silent_ms_max", limits.server_silent_ms_max, 0, day_ms);
    mapping.number("server_connects_max", limits.server_connects_max, 1, 10'000);
    mapping.milliseconds("server_retry_ms_max", limits.server_retry_ms_max, 10, 600'000);
    mapping.milliseconds("server_outage_wait_ms_max", limits.server_outage_wait_ms_max, 0, day_ms);
    mapping.number("descriptors_reserved", limits.descriptors_reserved, 0, 1'000'000);
    mapping.number("buffered_mib_max", limits.buffered_mib_max, 0, 1'048'576);
}

void read_limits(YamlMapping& top, Config& config) {
    auto mapping = top.mapping("limits");
    if (!mapping) return;
    auto& limits = config.limits;
    mapping->number("startup_packet_bytes_max", limits.startup_packet_bytes_max, 512, 1'048'576);
    mapping->milliseconds("login_ms_max", limits.login_ms_max, 100, hour_ms);
    mapping->number("sessions_max", limits.sessions_max, 1, 1'000'000);
    mapping->number("logins_max", limits.logins_max, 1, 1'000'000);
    mapping->number("auth_message_bytes_max", limits.auth_message_bytes_max, 512, 1'048'576);
    mapping->number("statement_bytes_max", limits.statement_bytes_max, 1'024, 1'073'741'823);
    mapping->number("prepared_statements_max", limits.prepared_statements_max, 1, 1'000'000);
    mapping->number("own_types_tenants_max", limits.own_types_tenants_max, 1, 10'000'000);
    mapping->number("server_statements_max", limits.server_statements_max, 1, 1'000'000);
    mapping->number("unnamed_reuses_max", limits.unnamed_reuses_max, 0, 1'000'000);
    mapping->milliseconds("unnamed_reuse_ms_max", limits.unnamed_reuse_ms_max, 1, 600'000);
    mapping->number("pending_replies_max", limits.pending_replies_max, 16, 100'000'000);
    mapping->number("fair_reserve_percent", limits.fair_reserve_percent, 0, 90);
    mapping->number("waiters_max", limits.waiters_max, 1, 10'000'000);
    mapping->milliseconds("wait_ms_max", limits.wait_ms_max, 1, day_ms);
    mapping->milliseconds("hold_wait_ms_max", limits.hold_wait_ms_max, 1, day_ms);
    mapping->number("hold_waiters_max", limits.hold_waiters_max, 1, 10'000'000);
    mapping->milliseconds("server_connect_ms_max", limits.server_connect_ms_max, 10, 600'000);
    mapping->milliseconds("server_idle_ms_max", limits.server_idle_ms_max, 10, 30 * day_ms);
    mapping->number("server_tenants_max", limits.server_tenants_max, 0, 10'000'000);
    mapping->milliseconds("server_lifetime_ms_max", limits.server_lifetime_ms_max, 10, 30 * day_ms);
    mapping->milliseconds("prologue_ms_max", limits.prologue_ms_max, 10, 600'000);
    mapping->milliseconds("client_write_ms_max", limits.client_write_ms_max, 10, day_ms);
    mapping->milliseconds("idle_in_transaction_ms_max", limits.idle_in_transaction_ms_max, 0, 30 * day_ms);
    mapping->milliseconds("cancel_ms_max", limits.cancel_ms_max, 10, 600'000);
    mapping->number("cancels_max", limits.cancels_max, 1, 100'000);
    read_login_limits(*mapping, limits);
    read_overload_limits(*mapping, limits);
    mapping->milliseconds("shutdown_ms_max", limits.shutdown_ms_max, 0, day_ms);
    mapping->finish();
}

void read_the_rest(YamlMapping& top, Config& config) {
    top.number("threads", config.threads, 1, 256);
    if (auto mapping = top.mapping("metrics")) {
        mapping->number("tenants_max", config.metrics_tenants_max, 0, 10'000);
        mapping->finish();
    }
    if (auto mapping = top.mapping("log")) {
        mapping->choice("level", config.log_level,
                        {{"debug", std::string("debug")},
                         {"info", std::string("info")},
                         {"warning", std::string("warning")},
                         {"error", std::string("error")}});
        mapping->finish();
    }
}

}  // namespace

Result<Config> parse_config(const std::string& yaml, const std::string& name, const std::string& directory) {
    YamlProblems problems(name);
    const auto root = load_yaml(yaml, YamlBounds{}, problems);
    if (!root) return problems.error();
    Config config;
    YamlMapping top(problems, *root, "");
    read_listeners(top, problems, directory, config);
    read_the_rest(top, config);
    read_peers(top, problems, config);
    read_identify(top, problems, config);
    read_home(top, config);
    read_auth_query(top, config);
    read_server_logins(top, problems, directory, config);
    read_admin(top, directory, config);
    read_catalog(top, directory, config);
    read_mover(top, config);
    read_limits(top, config);
    if (config.limits.hold_wait_ms_max < config.mover.hold_ms_max) {
        top.problem(
            top.has("mover") ? "mover" : "limits",
            "mover.hold_ms_max is longer than limits.hold_wait_ms_max: a move would fail the transactions it holds");
    }
    top.finish();
    if (problems.any()) return problems.error();
    return config;
}

Result<Config> load_config(const std::string& path) {
    std::ifstream file(path);
    std::error_code ignored;
    if (!file || std::filesystem::is_directory(path, ignored)) {
        return fail(ErrorKind::not_found, path + ": the file can't be read");
    }
    std::ostringstream text;
    text << file.rdbuf();
    return parse_config(text.str(), path, std::filesystem::path(path).parent_path().string());
}

}  // namespace pgporter
