#include "router/tenant_in_sql.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <vector>

#include "router/route.hpp"
#include "router/search_path.hpp"

namespace pgporter {
namespace {

constexpr std::string_view own_setting = "pgporter.tenant";
constexpr std::size_t json_bytes_max = 65'536;

bool same_setting(std::string_view configured, std::string_view lower_case) {
    return std::equal(configured.begin(), configured.end(), lower_case.begin(), lower_case.end(),
                      [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; });
}

const JsonSetting* find_json(const IdentifyConfig& config, std::string_view setting) {
    const auto found = std::find_if(config.json_settings.begin(), config.json_settings.end(),
                                    [&](const JsonSetting& json) { return same_setting(json.name, setting); });
    return found == config.json_settings.end() ? nullptr : &*found;
}

bool is_tenant_setting(const IdentifyConfig& config, std::string_view setting) {
    return std::any_of(config.tenant_settings.begin(), config.tenant_settings.end(),
                       [&](const std::string& name) { return same_setting(name, setting); });
}

bool may_speak(const Asker& asker, const Tenant& tenant) {
    return asker.user == nullptr || may_speak_for(*asker.user, tenant.name);
}

Error no_such_tenant(const Asker& asker, std::string_view setting, std::string_view value) {
    std::string message = "tenant \"" + std::string(value) + "\" doesn't exist";
    if (asker.user != nullptr) message += " or user \"" + asker.user->name + "\" may not speak for it";
    return fail(ErrorKind::not_found, std::move(message), "named by parameter \"" + std::string(setting) + "\"",
                "name a tenant, or take the parameter out of identify.tenant_settings if it means something else", "3D000");
}

Error no_such_schema(const Asker& asker, std::string_view schema) {
    std::string message = "search_path names schema \"" + std::string(schema) + "\", which is neither a tenant's";
    if (asker.user != nullptr) message += " that user \"" + asker.user->name + "\" may speak for";
    message += " nor a shared one";
    return fail(ErrorKind::not_found, std::move(message), {}, "name a tenant's schema, or add this one to identify.shared_schemas", "3F000");
}

// May not speak for everybody: what it may not speak for looks to it like what doesn't exist.
bool is_narrow(const Asker& asker) {
    return asker.user != nullptr && !asker.user->all_tenants;
}

// In a database of its own, where nobody else's schemas are: the tenant's further schemas may be called like anybody's.
bool is_alone(const Snapshot& snapshot, std::string_view tenant) {
    const TenantPtr found = tenant.empty() ? nullptr : snapshot.find_tenant(tenant);
    return found && found->placement.kind == PlacementKind::database;
}

// An application whose tenant was named at login may use such a setting for something else, unless row-level security reads it there.
bool may_mean_nobody(const Snapshot& snapshot, const Asker& asker, std::string_view setting) {
    if (asker.login_tenant.empty()) return false;
    // A policy may read it where others live. Refusing only what is somebody's would tell who exists.
    if (is_narrow(asker) && !is_alone(snapshot, asker.login_tenant)) return false;
    const TenantPtr tenant = snapshot.find_tenant(asker.login_tenant);
    const Database* database = snapshot.find_database(asker.cluster, asker.database);
    const bool is_guarded = database != nullptr && same_setting(database->tenant_setting, setting);
    return tenant && tenant->placement.kind != PlacementKind::rows && !is_guarded;
}

Result<std::string> known(const Asker& asker, std::string_view setting, std::string_view value, const TenantPtr& tenant) {
    if (!tenant || !may_speak(asker, *tenant)) return no_such_tenant(asker, setting, value);
    return tenant->name;
}

Result<std::string> named_in_json(const Snapshot& snapshot, const Asker& asker, const JsonSetting& json, std::string_view text) {
    boost::system::error_code error;
    const boost::json::value parsed = text.size() <= json_bytes_max ? boost::json::parse(text, error) : boost::json::value();
    if ((error || text.size() > json_bytes_max) && !json.refuse_invalid) return std::string();
    if (error || text.size() > json_bytes_max) {
        return fail(ErrorKind::invalid, "parameter \"" + json.name + "\" should name the tenant, but it isn't valid JSON", {},
                    "set it to a JSON object", "22023");
    }
    const boost::json::value* at = &parsed;
    for (std::string_view path = json.path; !path.empty();) {
        const auto dot = path.find('.');
        const boost::json::object* object = at->if_object();
        at = object == nullptr ? nullptr : object->if_contains(path.substr(0, dot));
        if (at == nullptr) return std::string();
        path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
    }
    std::string key;
    if (const auto* string = at->if_string()) {
        key = std::string(*string);
    } else if (at->is_int64() || at->is_uint64()) {
        key = boost::json::serialize(*at);
    } else if (!at->is_null() && json.refuse_invalid) {
        return fail(ErrorKind::invalid, "parameter \"" + json.name + "\" has no text at \"" + json.path + "\"", {}, {}, "22023");
    }
    if (key.empty()) return std::string();
    const TenantPtr named = snapshot.find_tenant_by_key(key);
    if ((!named || !may_speak(asker, *named)) && may_mean_nobody(snapshot, asker, json.name)) return std::string();
    return known(asker, json.name, key, named);
}

bool is_nobodys(const IdentifyConfig& config, std::string_view schema) {
    if (schema.empty() || schema == "$user" || schema == "information_schema" || schema.starts_with("pg_")) return true;
    return std::find(config.shared_schemas.begin(), config.shared_schemas.end(), schema) != config.shared_schemas.end();
}

// Which of the tenants with a schema of this name? Null: none that may be spoken for.
Result<TenantPtr> owner_of(const Snapshot& snapshot, const Asker& asker, const std::string& schema) {
    std::vector<TenantPtr> owners = snapshot.tenants_of_schema(schema);
    std::erase_if(owners, [&](const TenantPtr& owner) { return !may_speak(asker, *owner); });
    if (owners.empty()) return TenantPtr();
    if (owners.size() == 1) return owners.front();
    for (const std::string_view preferred : {asker.current_tenant, asker.login_tenant}) {
        for (const TenantPtr& owner : owners) {
            if (owner->name == preferred) return owner;
        }
    }
    std::erase_if(owners, [&](const TenantPtr& owner) {
        return owner->placement.cluster != asker.cluster || owner->placement.database != asker.database;
    });
    if (owners.size() == 1) return owners.front();
    return fail(ErrorKind::invalid, "search_path names schema \"" + schema + "\", which several tenants have, so the tenant is not clear", {},
                "name the tenant by SET pgporter.tenant first", "28000");
}

Result<std::string> named_by_path(const IdentifyConfig& config, const Snapshot& snapshot, const Asker& asker, std::string_view value) {
    const auto schemas = split_search_path(value);
    if (!schemas) return std::string();  // PostgreSQL refuses it
    TenantPtr named;
    std::string named_by;
    std::vector<std::string> unknown;
    for (const std::string& schema : *schemas) {
        if (is_nobodys(config, schema) || schema == named_by) continue;
        auto owner = owner_of(snapshot, asker, schema);
        if (!owner) return owner.error();
        if (!*owner) {
            unknown.push_back(schema);
            continue;
        }
        if (named) {
            return fail(ErrorKind::invalid,
                        "search_path has the schemas of two tenants: \"" + named_by + "\" and \"" + schema + "\"", {},
                        "name one tenant's schema only", "0A000");
        }
        named = *owner;
        named_by = schema;
    }
    // Of nobody, or of a tenant who may not be spoken for: the same, and never where others live.
    if (asker.login_tenant.empty() || (is_narrow(asker) && !is_alone(snapshot, asker.login_tenant))) {
        const TenantPtr whose = named || asker.login_tenant.empty() ? named : snapshot.find_tenant(asker.login_tenant);
        for (const std::string& schema : unknown) {
            const bool is_shared = whose && std::find(whose->shared_schemas.begin(), whose->shared_schemas.end(), schema) != whose->shared_schemas.end();
            if (!is_shared) return no_such_schema(asker, schema);
        }
    }
    return named ? named->name : std::string();
}

}  // namespace

bool names_tenants(const IdentifyConfig& config, std::string_view setting) {
    return setting == "search_path" || setting == own_setting || is_tenant_setting(config, setting) || find_json(config, setting) != nullptr;
}

Result<std::string> tenant_named_by(const IdentifyConfig& config, const Snapshot& snapshot, const Asker& asker, std::string_view setting,
                                    std::string_view value) {
    if (value.empty()) return std::string();
    if (setting == "search_path") return named_by_path(config, snapshot, asker, value);
    if (setting == own_setting) return known(asker, setting, value, snapshot.find_tenant(value));
    if (is_tenant_setting(config, setting)) {
        const TenantPtr named = snapshot.find_tenant_by_key(value);
        if ((!named || !may_speak(asker, *named)) && may_mean_nobody(snapshot, asker, setting)) return std::string();
        return known(asker, setting, value, named);
    }
    if (const JsonSetting* json = find_json(config, setting)) return named_in_json(snapshot, asker, *json, value);
    return std::string();
}

Result<std::string> tenant_in_force(const IdentifyConfig& config, const Snapshot& snapshot, const Asker& asker,
                                    const ScopedSettings::Values& effective) {
    std::string tenant;
    std::string_view named_by;
    for (const auto& [setting, value] : effective) {
        Asker asked = asker;
        if (!tenant.empty()) asked.current_tenant = tenant;
        auto named = tenant_named_by(config, snapshot, asked, setting, value);
        if (!named) return named.error();
        if (named->empty() || *named == tenant) continue;
        if (!tenant.empty()) {
            return fail(ErrorKind::invalid,
                        "this session's settings name two tenants: \"" + tenant + "\" (" + std::string(named_by) + ") and \"" + *named + "\" (" +
                            setting + ")",
                        {}, "set both to the same tenant, or RESET one of them", "28000");
        }
        tenant = *std::move(named);
        named_by = setting;
    }
    if (!tenant.empty() && tenant != asker.login_tenant && is_alone(snapshot, asker.login_tenant) && !is_alone(snapshot, tenant)) {
        // What means nobody where the login's tenant lives alone may be somebody where others live.
        Asker asked = asker;
        asked.login_tenant = {};
        asked.current_tenant = tenant;
        for (const auto& [setting, value] : effective) {
            if (is_narrow(asker)) PP_TRY(tenant_named_by(config, snapshot, asked, setting, value));
        }
    }
    return tenant.empty() ? std::string(asker.login_tenant) : tenant;
}

}  // namespace pgporter
