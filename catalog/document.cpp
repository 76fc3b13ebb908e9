#include "catalog/document.hpp"

#include <algorithm>
#include <cctype>
#include <set>
#include <unordered_set>

#include "base/ip_address.hpp"
#include "catalog/host_name.hpp"
#include "catalog/setting_name.hpp"
#include "catalog/yaml_reader.hpp"

namespace pgporter {
namespace {

constexpr YamlBounds document_bounds{.bytes_max = 512U << 20, .nodes_max = 50'000'000, .depth_max = 12};
constexpr std::size_t key_bytes_max = 255;
constexpr std::size_t domains_max = 100;            // of one tenant
constexpr std::size_t allowed_addresses_max = 100;  // of one tenant: each login looks through them
constexpr std::size_t identifier_bytes_max = 63;  // PostgreSQL's NAMEDATALEN - 1: a longer name would be cut, silently

void read_identifier(YamlMapping& mapping, std::string_view key, std::string& out) {
    mapping.text(key, out);
    if (out.size() > identifier_bytes_max) {
        mapping.problem(key, "is longer than " + std::to_string(identifier_bytes_max) + " bytes");
    }
}

// "first name wins" would make the file's order matter: a name that is there twice is a mistake.
class UniqueNames {
  public:
    // False: it was noted as a problem.
    bool check(YamlMapping& mapping, const std::string& what, const std::string& name) {
        if (name.empty() || seen_.insert(name).second) return true;
        mapping.problem("name", "there is another " + what + " " + name);
        return false;
    }

  private:
    std::set<std::string> seen_;
};

bool is_base64(std::string_view text, std::size_t length) {
    const auto is_digit = [](unsigned char c) { return std::isalnum(c) != 0 || c == '+' || c == '/'; };
    while (!text.empty() && text.back() == '=') text.remove_suffix(1);
    const bool fits = length == 0 ? !text.empty() : text.size() == (length * 8 + 5) / 6;
    return fits && std::all_of(text.begin(), text.end(), is_digit);
}

// "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>", the keys 32 bytes in base64.
bool is_scram_verifier(std::string_view text) {
    constexpr std::string_view prefix = "SCRAM-SHA-256$";
    constexpr std::size_t key_bytes = 32;
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    const auto dollar = text.find('$');
    if (dollar == std::string_view::npos) return false;
    const auto first = text.substr(0, dollar);
    const auto second = text.substr(dollar + 1);
    const auto first_colon = first.find(':');
    const auto second_colon = second.find(':');
    if (first_colon == std::string_view::npos || second_colon == std::string_view::npos) return false;
    const auto iterations = first.substr(0, first_colon);
    const bool counted = !iterations.empty() && iterations.size() <= 9 && iterations.front() != '0' &&
                         iterations.find_first_not_of("0123456789") == std::string_view::npos;
    return counted && is_base64(first.substr(first_colon + 1), 0) &&
           is_base64(second.substr(0, second_colon), key_bytes) &&
           is_base64(second.substr(second_colon + 1), key_bytes);
}

// What the proxy itself sets for each tenant, and what would let a tenant be another one.
bool is_own_setting(std::string_view name) {
    return name == "search_path" || name == "role" || name == "session_authorization" || name.starts_with("pgporter.");
}

Cluster read_cluster(YamlMapping& mapping) {
    Cluster cluster;
    mapping.require({"name", "host"});
    mapping.text("name", cluster.name);
    mapping.text("host", cluster.host);
    mapping.number("port", cluster.port, 1, 65'535);
    mapping.choice("tls", cluster.tls,
                   {{to_text(ServerTls::disable), ServerTls::disable},
                    {to_text(ServerTls::require), ServerTls::require},
                    {to_text(ServerTls::verify_ca), ServerTls::verify_ca},
                    {to_text(ServerTls::verify_full), ServerTls::verify_full}});
    mapping.text("tls_ca_file", cluster.tls_ca_file);
    mapping.number("server_connections_max", cluster.server_connections_max, 1, 100'000);
    const bool verifies = cluster.tls == ServerTls::verify_ca || cluster.tls == ServerTls::verify_full;
    if (verifies && cluster.tls_ca_file.empty()) mapping.problem("tls", "needs tls_ca_file");
    if (cluster.name == "*") mapping.problem("name", "* stands for every cluster in server_logins");
    mapping.finish();
    return cluster;
}

Database read_database(YamlMapping& mapping) {
    Database database;
    mapping.require({"cluster", "name"});
    mapping.text("cluster", database.cluster);
    read_identifier(mapping, "name", database.name);
    mapping.number("server_connections_max", database.server_connections_max, 0, 100'000);
    mapping.number("server_connections_min", database.server_connections_min, 0, 100'000);
    if (database.server_connections_max != 0 && database.server_connections_min > database.server_connections_max) {
        mapping.problem("server_connections_min", "must not be more than server_connections_max");
    }
    mapping.choice("isolation", database.isolation,
                   {{to_text(Isolation::app), Isolation::app},
                    {to_text(Isolation::role), Isolation::role},
                    {to_text(Isolation::login), Isolation::login}});
    mapping.text("tenant_setting", database.tenant_setting);
    const std::string& setting = database.tenant_setting;
    if (!setting.empty() && !is_custom_setting_name(setting)) {
        mapping.problem("tenant_setting", "must be a run-time parameter of your own, with a dot (app.tenant)");
    }
    if (is_own_setting(folded_setting_name(setting))) {
        mapping.problem("tenant_setting", "must not be " + folded_setting_name(setting) + ": it is the proxy's to set");
    }
    read_identifier(mapping, "tenant_column", database.tenant_column);
    mapping.finish();
    return database;
}

void read_user_tenants(YamlMapping& mapping, User& user) {
    const auto node = mapping.node("tenants");
    if (!node) return;
    if (node->IsScalar()) {
        user.all_tenants = node->Scalar() == "*";
        if (!user.all_tenants) mapping.problem("tenants", "must be \"*\" or a list of tenants' names");
        return;
    }
    mapping.texts("tenants", user.tenants);
    std::sort(user.tenants.begin(), user.tenants.end());
    for (const auto& tenant : user.tenants) {
        if (!is_tenant_name(tenant)) mapping.problem("tenants", "has a name that no tenant can have");
    }
}

User read_user(YamlMapping& mapping) {
    User user;
    mapping.require({"name", "tenants"});
    read_identifier(mapping, "name", user.name);
    mapping.text("scram_verifier", user.scram_verifier);
    if (!user.scram_verifier.empty() && !is_scram_verifier(user.scram_verifier)) {
        mapping.problem("scram_verifier", "must be a SCRAM verifier as in pg_authid.rolpassword (SCRAM-SHA-256$...)");
    }
    read_user_tenants(mapping, user);
    mapping.finish();
    return user;
}

void read_placement(YamlMapping& mapping, Placement& placement) {
    auto inner = mapping.mapping("placement");
    if (!inner) return;
    inner->require({"kind", "cluster", "database"});
    inner->choice("kind", placement.kind,
                  {{to_text(PlacementKind::rows), PlacementKind::rows},
                   {to_text(PlacementKind::schema), PlacementKind::schema},
                   {to_text(PlacementKind::database), PlacementKind::database}});
    inner->text("cluster", placement.cluster);
    read_identifier(*inner, "database", placement.database);
    read_identifier(*inner, "schema", placement.schema);
    if (placement.kind == PlacementKind::schema) inner->require({"schema"});
    if (placement.kind == PlacementKind::rows && inner->has("schema")) {
        inner->problem("schema", "doesn't go with kind rows: the tables are shared (shared_schemas says where they are)");
    }
    inner->finish();
}

void read_names(YamlMapping& mapping, Tenant& tenant) {
    mapping.text("key", tenant.key);
    if (tenant.key.size() > key_bytes_max) mapping.problem("key", "is longer than " + std::to_string(key_bytes_max) + " bytes");
    const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
    if (std::any_of(tenant.key.begin(), tenant.key.end(), is_control)) mapping.problem("key", "has a control character");
    mapping.texts("domains", tenant.domains);
    if (tenant.domains.size() > domains_max) mapping.problem("domains", "are more than " + std::to_string(domains_max));
    for (auto& domain : tenant.domains) {
        domain = folded_setting_name(domain);  // ASCII letters in lower case, as in a parameter's name
        if (!is_host_name(domain)) mapping.problem("domains", "has a text that is no host name (db.acme.example)");
    }
    mapping.texts("allowed_addresses", tenant.allowed_addresses);
    if (tenant.allowed_addresses.size() > allowed_addresses_max) {
        mapping.problem("allowed_addresses", "are more than " + std::to_string(allowed_addresses_max));
    }
    for (const auto& block : tenant.allowed_addresses) {
        if (!parse_cidr(block)) {
            mapping.problem("allowed_addresses", "must be CIDR blocks without bits behind the prefix (10.0.0.0/8, 2001:db8::/32)");
        }
    }
}

Tenant read_tenant(YamlMapping& mapping) {
    Tenant tenant;
    tenant.epoch = Epoch{1};
    mapping.require({"name", "placement"});
    mapping.text("name", tenant.name);
    if (!tenant.name.empty() && !is_tenant_name(tenant.name)) {
        mapping.problem("name", "must be 1 to 63 of a-z, 0-9, _ and -, and begin with a letter or digit");
    }
    read_placement(mapping, tenant.placement);
    read_names(mapping, tenant);
    mapping.choice("state", tenant.state,
                   {{to_text(TenantState::active), TenantState::active},
                    {to_text(TenantState::read_only), TenantState::read_only},
                    {to_text(TenantState::suspended), TenantState::suspended}});
    mapping.choice(
        "pool_mode", tenant.pool_mode,
        {{to_text(PoolMode::transaction), PoolMode::transaction}, {to_text(PoolMode::session), PoolMode::session}});
    read_identifier(mapping, "role", tenant.role);
    mapping.texts("shared_schemas", tenant.shared_schemas);
    for (const auto& schema : tenant.shared_schemas) {
        if (schema.size() > identifier_bytes_max) mapping.problem("shared_schemas", "has a name longer than 63 bytes");
    }
    mapping.number("server_connections_max", tenant.server_connections_max, 0, 100'000);
    mapping.number("sessions_max", tenant.sessions_max, 0, 1'000'000);
    for (const auto& field : tenant_limit_fields) mapping.number(field.name, tenant.limits.*field.value, 0, field.max);
    mapping.free_texts("settings", tenant.settings);
    std::set<std::string> names;
    for (const auto& [name, value] : tenant.settings) {
        const std::string lower = folded_setting_name(name);
        if (!is_setting_name(name)) mapping.problem("settings", "has a name that no run-time parameter can have");
        if (is_own_setting(lower)) mapping.problem("settings", "must not set " + lower + ": it is the proxy's to set");
        if (!names.insert(lower).second) mapping.problem("settings", "sets " + lower + " twice");
    }
    mapping.finish();
    return tenant;
}

void read_clusters(YamlMapping& top, YamlProblems& problems, CatalogDocument& document) {
    UniqueNames names;
    for (const auto& item : top.list("clusters")) {
        YamlMapping mapping(problems, item.node, item.path);
        document.clusters.push_back(read_cluster(mapping));
        names.check(mapping, "cluster", document.clusters.back().name);
    }
}

void read_databases(YamlMapping& top, YamlProblems& problems, CatalogDocument& document) {
    std::set<std::pair<std::string, std::string>> seen;
    for (const auto& item : top.list("databases")) {
        YamlMapping mapping(problems, item.node, item.path);
        const auto& database = document.databases.emplace_back(read_database(mapping));
        document.origin.databases.push_back(mapping.line());
        if (!seen.emplace(database.cluster, database.name).second) {
            mapping.problem("name", "there is another database " + database.name + " on cluster " + database.cluster);
        }
    }
}

void read_users(YamlMapping& top, YamlProblems& problems, CatalogDocument& document) {
    UniqueNames names;
    for (const auto& item : top.list("users")) {
        YamlMapping mapping(problems, item.node, item.path);
        document.users.push_back(read_user(mapping));
        names.check(mapping, "user", document.users.back().name);
    }
}

void read_tenants(YamlMapping& top, YamlProblems& problems, CatalogDocument& document) {
    UniqueNames names;
    std::unordered_set<std::string> keys;
    std::unordered_set<std::string> domains;
    for (const auto& item : top.list("tenants")) {
        YamlMapping mapping(problems, item.node, item.path);
        const auto& tenant = document.tenants.emplace_back(read_tenant(mapping));
        document.origin.tenants.push_back(mapping.line());
        if (!names.check(mapping, "tenant", tenant.name)) continue;
        if (!keys.insert(tenant_key(tenant)).second) {
            mapping.problem("key", "there is another tenant with the key " + tenant_key(tenant) + " (a tenant without a key has its name)");
        }
        for (const auto& domain : tenant.domains) {
            if (!domains.insert(domain).second) mapping.problem("domains", domain + " names another tenant already, or is there twice");
        }
    }
}

std::string origin_of(const std::string& name, const std::vector<int>& lines, std::string_view list, std::size_t index,
                      std::string_view key) {
    if (index >= lines.size()) return {};
    return name + ":" + std::to_string(lines[index]) + ": " + std::string(list) + "[" + std::to_string(index) + "]." + std::string(key) +
           ": ";
}

}  // namespace

std::string DocumentOrigin::tenant(std::size_t index, std::string_view key) const {
    return origin_of(name, tenants, "tenants", index, key);
}

std::string DocumentOrigin::database(std::size_t index, std::string_view key) const {
    return origin_of(name, databases, "databases", index, key);
}

Result<CatalogDocument> parse_catalog_document(const std::string& yaml, const std::string& name) {
    YamlProblems problems(name);
    const auto root = load_yaml(yaml, document_bounds, problems);
    if (!root) return problems.error();
    CatalogDocument document;
    document.origin.name = name;
    YamlMapping top(problems, *root, "");
    read_clusters(top, problems, document);
    read_databases(top, problems, document);
    read_users(top, problems, document);
    read_tenants(top, problems, document);
    top.finish();
    if (problems.any()) return problems.error();
    return document;
}

}  // namespace pgporter
