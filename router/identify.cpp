#include "router/identify.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "router/route.hpp"
#include "router/search_path.hpp"
#include "router/sql_lexer.hpp"
#include "router/tenant_in_sql.hpp"

namespace pgporter {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

constexpr std::string_view invalid_authorization = "28000";

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

bool starts_ignoring_case(std::string_view text, std::string_view prefix) {
    return text.size() >= prefix.size() && equal_ignoring_case(text.substr(0, prefix.size()), prefix);
}

// One way's answer. Several tenants: any of them, because schemas of one name are in several databases.
struct Claim {
    std::string way;
    std::vector<std::string> tenants;
};

// Where a name alone says that somebody exists, it is nobody's to who may not speak for them: these are not told apart.
bool may_speak(const User* speaker, const Tenant& tenant) {
    return speaker == nullptr || may_speak_for(*speaker, tenant.name);
}

std::string quoted(std::string_view name) {
    return '"' + std::string(name) + '"';
}

std::string_view parameter(const LoginRequest& request, std::string_view name) {
    std::string_view value;
    for (const auto& [key, text] : request.parameters) {
        if (key == name) value = text;  // the last one counts, as in PostgreSQL
    }
    return value;
}

// The user without the suffix, and the suffix (empty: there is none).
std::pair<std::string_view, std::string_view> split_user(const IdentifyConfig& config, const Snapshot& snapshot,
                                                         std::string_view raw) {
    const auto dot = raw.rfind('.');
    const bool has_both = dot != std::string_view::npos && dot > 0 && dot + 1 < raw.size();
    if (!config.user_suffix || !has_both || snapshot.find_user(raw) != nullptr) return {raw, {}};
    return {raw.substr(0, dot), raw.substr(dot + 1)};
}

void claim_by_options(const LoginRequest& request, std::vector<Claim>& claims) {
    const auto look = [&](const Settings& settings, std::string_view way) {
        for (const auto& [name, value] : settings) {
            if (equal_ignoring_case(name, "pgporter.tenant") && !value.empty())
                claims.push_back({std::string(way), {value}});
        }
    };
    look(request.option_settings, "options");
    look(request.parameters, "startup parameter pgporter.tenant");
}

// Returns the database that is left when the tenant is taken out of the name.
std::string claim_by_database(const IdentifyConfig& config, const Snapshot& snapshot, const User* speaker, std::string_view database,
                              std::vector<Claim>& claims) {
    if (!config.database || database.empty()) return std::string(database);
    const auto at = database.rfind('@');
    if (at != std::string_view::npos && at + 1 < database.size()) {
        claims.push_back({"database name", {std::string(database.substr(at + 1))}});
        return std::string(database.substr(0, at));
    }
    const TenantPtr tenant = snapshot.find_tenant(database);
    if (!tenant || !may_speak(speaker, *tenant)) return std::string(database);
    claims.push_back({"database name", {std::string(database)}});
    return {};
}

// Schemas that every database has: a tenant with a database of its own may well live in one of them, but naming it
// names nobody.
bool is_everybodys_schema(std::string_view schema) {
    return schema == "public" || schema == "information_schema" || schema == "$user" || schema.starts_with("pg_");
}

Result<void> claim_by_search_path(const Snapshot& snapshot, const User* speaker, std::string_view list, std::vector<Claim>& claims) {
    const auto schemas = split_search_path(list);
    if (!schemas) return {};  // PostgreSQL itself will refuse it; no tenant is named by it
    std::string named_by;
    for (const auto& schema : *schemas) {
        if (is_everybodys_schema(schema) || schema == named_by) continue;
        auto tenants = snapshot.tenants_of_schema(schema);
        std::erase_if(tenants, [&](const TenantPtr& tenant) { return !may_speak(speaker, *tenant); });
        if (tenants.empty()) continue;
        if (!named_by.empty()) {
            return fail(
                ErrorKind::invalid,
                "search_path has the schemas of different tenants: " + quoted(named_by) + " and " + quoted(schema), {},
                "name one tenant's schema only", std::string(invalid_authorization));
        }
        named_by = schema;
        Claim claim{"search_path", {}};
        for (const auto& tenant : tenants) claim.tenants.push_back(tenant->name);
        std::sort(claim.tenants.begin(), claim.tenants.end());
        claims.push_back(std::move(claim));
    }
    return {};
}

Result<void> claim_by_search_paths(const Snapshot& snapshot, const LoginRequest& request, std::vector<Claim>& claims) {
    for (const auto* settings : {&request.option_settings, &request.parameters}) {
        for (const auto& [name, value] : *settings) {
            if (equal_ignoring_case(name, "search_path")) PP_TRY(claim_by_search_path(snapshot, request.speaker, value, claims));
        }
    }
    return {};
}

// The tenant below the suffix, whether it exists or not; or the one that has the name as its domain. Any other name is just ours.
void claim_by_server_name(const IdentifyConfig& config, const Snapshot& snapshot, const User* speaker, std::string_view sent,
                          std::vector<Claim>& claims) {
    if (sent.ends_with('.')) sent.remove_suffix(1);  // fully qualified: the same name
    std::string name(sent);
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const std::size_t suffix_size = config.sni_suffix.size() + 1;
    const bool is_below = !config.sni_suffix.empty() && name.size() > suffix_size && name[name.size() - suffix_size] == '.' &&
                          equal_ignoring_case(std::string_view(name).substr(name.size() - suffix_size + 1), config.sni_suffix);
    if (is_below) {
        claims.push_back({"TLS server name", {name.substr(0, name.size() - suffix_size)}});
    } else if (const TenantPtr owner = snapshot.find_tenant_by_domain(name); owner && may_speak(speaker, *owner)) {
        claims.push_back({"TLS server name", {owner->name}});
    }
}

// The tenant in a setting's JSON. Of nobody's: `unknown` says so, for it may mean something else beside another way of naming.
Result<void> claim_by_json(const IdentifyConfig& config, const Snapshot& snapshot, const User* speaker, const Settings& settings,
                           std::vector<Claim>& claims, std::optional<Error>& unknown) {
    for (const auto& [name, value] : settings) {
        const bool is_json = std::any_of(config.json_settings.begin(), config.json_settings.end(),
                                         [&setting = name](const JsonSetting& json) { return equal_ignoring_case(setting, json.name); });
        if (!is_json) continue;
        Asker asker;
        asker.user = speaker;
        const Result<std::string> named = tenant_named_by(config, snapshot, asker, folded(name), value);
        if (named && !named->empty()) claims.push_back({"startup parameter " + name, {*named}});
        if (named) continue;
        if (named.error().kind != ErrorKind::not_found) return named.error();
        unknown = named.error();
    }
    return {};
}

// Tenant settings among the parameters, as `SET app.tenant` in SQL. Returns a value that is no tenant's key, if there is one: beside another
// way of naming it may mean something else.
std::string claim_by_tenant_settings(const IdentifyConfig& config, const Snapshot& snapshot, const User* speaker, const Settings& settings,
                                     std::vector<Claim>& claims) {
    std::string unknown;
    for (const auto& [name, value] : settings) {
        const bool names_tenants = std::any_of(config.tenant_settings.begin(), config.tenant_settings.end(),
                                               [&setting = name](const std::string& other) { return equal_ignoring_case(setting, other); });
        if (!names_tenants || value.empty()) continue;
        if (const TenantPtr tenant = snapshot.find_tenant_by_key(value); tenant && may_speak(speaker, *tenant)) {
            claims.push_back({"startup parameter " + name, {tenant->name}});
        } else {
            unknown = value;
        }
    }
    return unknown;
}

Error no_such_key(std::string_view user, std::string_view key) {
    return fail(ErrorKind::not_found, "tenant " + quoted(key) + " doesn't exist or user " + quoted(user) + " may not speak for it", {}, {}, "3D000");
}

bool holds(const Claim& claim, const std::string& tenant) {
    return std::find(claim.tenants.begin(), claim.tenants.end(), tenant) != claim.tenants.end();
}

Error contradiction(const std::string& tenant, const std::string& way, const Claim& other) {
    return fail(ErrorKind::invalid,
                "the connection names different tenants: " + quoted(tenant) + " (" + way + ") and " +
                    quoted(other.tenants.front()) + " (" + other.way + ")",
                {}, "name the tenant in one way, or the same tenant in each", std::string(invalid_authorization));
}

// The one tenant that all claims allow; empty: there are no claims.
Result<std::string> agree(const std::vector<Claim>& claims) {
    const Claim* certain = nullptr;
    for (const auto& claim : claims) {
        if (claim.tenants.size() == 1 && certain == nullptr) certain = &claim;
    }
    if (certain == nullptr && claims.empty()) return std::string();
    if (certain == nullptr) {
        // Only search_path says anything, perhaps twice: what both allow may still be one.
        std::vector<std::string> common;
        for (const auto& tenant : claims.front().tenants) {
            if (std::all_of(claims.begin(), claims.end(), [&](const Claim& c) { return holds(c, tenant); }))
                common.push_back(tenant);
        }
        if (common.size() == 1) return common.front();
        return fail(
            ErrorKind::invalid, "search_path names a schema that several databases have, so the tenant is not clear",
            {},
            "name the tenant in another way as well: -c pgporter.tenant=<tenant> in options, user <user>.<tenant> or "
            "database <database>@<tenant>",
            std::string(invalid_authorization));
    }
    const std::string& tenant = certain->tenants.front();
    for (const auto& claim : claims) {
        if (!holds(claim, tenant)) return contradiction(tenant, certain->way, claim);
    }
    return tenant;
}

bool is_run_time_parameter(std::string_view name) {
    for (const std::string_view other : {"user", "database", "options", "replication"}) {
        if (name == other) return false;  // exactly these words, as in PostgreSQL
    }
    return !starts_ignoring_case(name, "pgporter.") && !starts_ignoring_case(name, "_pq_.");
}

Settings settings_of(const LoginRequest& request) {
    Settings settings;
    for (const auto* source : {&request.option_settings, &request.parameters}) {
        for (const auto& [name, value] : *source) {
            if (!is_run_time_parameter(name)) continue;
            const auto found = std::find_if(settings.begin(), settings.end(), [&wanted = name](const auto& setting) {
                return equal_ignoring_case(setting.first, wanted);
            });
            if (found == settings.end()) {
                settings.emplace_back(name, value);
            } else {
                found->second = value;
            }
        }
    }
    return settings;
}

}  // namespace

Result<Identity> identify(const IdentifyConfig& config, const Snapshot& snapshot, const LoginRequest& request) {
    const std::string_view raw_user = parameter(request, "user");
    if (raw_user.empty()) {
        return fail(ErrorKind::invalid, "no PostgreSQL user name specified in startup packet", {}, {},
                    std::string(invalid_authorization));
    }
    Identity identity;
    std::vector<Claim> claims;
    if (config.options) claim_by_options(request, claims);
    const auto [user, suffix] = split_user(config, snapshot, raw_user);
    identity.user = user;
    if (!suffix.empty()) claims.push_back({"user name", {std::string(suffix)}});
    // libpq names the database after the user when nobody does: that says nothing.
    const std::string_view database = parameter(request, "database");
    if (database != raw_user) identity.database = claim_by_database(config, snapshot, request.speaker, database, claims);
    if (!request.server_name.empty()) claim_by_server_name(config, snapshot, request.speaker, request.server_name, claims);
    if (config.search_path) PP_TRY(claim_by_search_paths(snapshot, request, claims));
    identity.settings = settings_of(request);
    const std::string unknown_key = config.sql ? claim_by_tenant_settings(config, snapshot, request.speaker, identity.settings, claims) : std::string();
    std::optional<Error> unknown_json;
    if (config.sql) PP_TRY(claim_by_json(config, snapshot, request.speaker, identity.settings, claims, unknown_json));
    auto tenant = agree(claims);
    if (!tenant) return tenant.error();
    if (claims.empty() && unknown_json) return *unknown_json;
    if (claims.empty() && !unknown_key.empty()) return no_such_key(identity.user, unknown_key);
    identity.tenant = *std::move(tenant);
    return identity;
}

std::string login_user(const IdentifyConfig& config, const Snapshot& snapshot, const LoginRequest& request) {
    return std::string(split_user(config, snapshot, parameter(request, "user")).first);
}

}  // namespace pgporter
