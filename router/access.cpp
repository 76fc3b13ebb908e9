#include "router/access.hpp"

#include <algorithm>

#include "catalog/server_access.hpp"
#include "catalog/setting_name.hpp"

namespace pgporter {
namespace {

constexpr std::string_view system_error = "58000";
constexpr std::string_view insufficient_privilege = "42501";
constexpr std::string_view invalid_authorization = "28000";

std::string quoted(std::string_view name) {
    return '"' + std::string(name) + '"';
}

Error not_set_up(const Tenant& tenant, const std::string& what, std::string hint) {
    return fail(ErrorKind::internal, "tenant " + quoted(tenant.name) + " can't be served: " + what, {}, std::move(hint),
                std::string(system_error));
}

bool names_tenants_in_sql(const IdentifyConfig& identify, std::string_view setting) {
    const std::string wanted = folded_setting_name(setting);
    return identify.sql && std::any_of(identify.tenant_settings.begin(), identify.tenant_settings.end(),
                                       [&](const std::string& name) { return folded_setting_name(name) == wanted; });
}

bool is_on(std::string_view value) {
    const std::string lower = folded_setting_name(value);
    return lower == "on" || lower == "true" || lower == "yes" || lower == "1";
}

}  // namespace

Result<Access> access_for(const Config& config, const Snapshot& snapshot, const Tenant& tenant, std::string_view session_user) {
    const auto& placement = tenant.placement;
    const Database* database = snapshot.find_database(placement.cluster, placement.database);
    const Isolation isolation = database == nullptr ? Isolation::app : database->isolation;
    Access access{std::string(session_user), tenant.role, {}, {}, false, false, tenant.state == TenantState::read_only};
    if (database != nullptr && !database->tenant_setting.empty()) {
        access.setting = database->tenant_setting;
        access.setting_value = tenant_key(tenant);
        access.guards_setting = !names_tenants_in_sql(config.identify, access.setting);
    }
    if (placement.kind == PlacementKind::rows && access.setting.empty() && isolation == Isolation::app) {
        return not_set_up(tenant, "nothing says which rows of its database are its own", "give the database's entry a tenant_setting");
    }
    if (isolation == Isolation::app) return access;
    if (tenant.role.empty()) {
        return not_set_up(tenant, "its database has isolation " + std::string(to_text(isolation)) + " and the tenant has no role",
                          "give the tenant a role in the catalog");
    }
    access.guards_role = isolation == Isolation::role;
    if (isolation == Isolation::login) {
        access.login_user = tenant.role;
        access.role.clear();
        if (find_server_login(config, placement.cluster, tenant.role) == nullptr) {
            return not_set_up(tenant, "its database has isolation login and pgporter has no password for the tenant's role " + quoted(tenant.role),
                              "add the role to server_logins in pgporter.yaml");
        }
    }
    return access;
}

std::optional<Error> startup_settings_trouble(const Access& access, const std::vector<std::pair<std::string, std::string>>& settings) {
    for (const auto& [name, value] : settings) {
        const std::string lower = folded_setting_name(name);
        if (access.guards_role && (lower == "role" || lower == "session_authorization") && value != access.role) {
            return fail(ErrorKind::forbidden,
                        "the connection asks for " + lower + " " + quoted(value) + ", but its tenant is kept apart by its role", {}, "leave " + lower + " to pgporter", std::string(insufficient_privilege));
        }
        // The guards read SQL as it is with this one on.
        if ((access.guards_role || access.guards_setting) && lower == "standard_conforming_strings" && !is_on(value)) {
            return fail(ErrorKind::forbidden, "standard_conforming_strings can't be off where pgporter guards a tenant's role or setting", {},
                        "leave standard_conforming_strings on", std::string(insufficient_privilege));
        }
        if (!access.setting.empty() && lower == folded_setting_name(access.setting) && value != access.setting_value) {
            return fail(ErrorKind::invalid,
                        "the connection names different tenants: parameter " + access.setting + " isn't the key of its tenant", {},
                        "leave " + access.setting + " to pgporter, or name the same tenant with it", std::string(invalid_authorization));
        }
    }
    return std::nullopt;
}

std::optional<Error> left_access(const Access& access, std::string_view role, const std::string* setting) {
    if (access.guards_role && role != access.role) {
        return fail(ErrorKind::forbidden, "the session left its tenant's role in a function or an anonymous block", {},
                    "leave the role to pgporter: the tenant is kept apart by it", std::string(insufficient_privilege));
    }
    // An empty one is what RESET leaves: nobody's.
    if (access.guards_setting && setting != nullptr && !setting->empty() && *setting != access.setting_value) {
        return fail(ErrorKind::forbidden, "the session changed " + access.setting + " in a function or an anonymous block", {},
                    "leave the parameter to pgporter: it says whose rows are whose", std::string(insufficient_privilege));
    }
    return std::nullopt;
}

}  // namespace pgporter
