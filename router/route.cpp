#include "router/route.hpp"

#include <algorithm>

namespace pgporter {
namespace {

constexpr std::string_view unknown_database = "3D000";
constexpr std::string_view cannot_connect_now = "57P03";
constexpr std::string_view system_error = "58000";

// One text for both, or the names of other people's tenants could be guessed.
Error no_such_tenant(const User* user, std::string_view tenant) {
    std::string message = "tenant \"" + std::string(tenant) + "\" doesn't exist";
    if (user != nullptr) message += " or user \"" + user->name + "\" may not speak for it";
    return fail(ErrorKind::not_found, std::move(message), {}, {}, std::string(unknown_database));
}

Error no_tenant_named() {
    return fail(ErrorKind::invalid, "no tenant is named", {},
                "name it in one of these ways: options='-c pgporter.tenant=<tenant>', user <user>.<tenant>, "
                "database <tenant> or <database>@<tenant>, or search_path=<the tenant's schema>",
                std::string(unknown_database));
}

Error cluster_is_missing(std::string_view whose, std::string_view cluster) {
    return fail(ErrorKind::internal, "the catalog has no entry for the cluster of " + std::string(whose),
                "cluster \"" + std::string(cluster) + "\"", "ask the operator to add the cluster to the catalog",
                std::string(system_error));
}

Result<void> check_database(const Snapshot& snapshot, const std::optional<HomeConfig>& home, const User* user, std::string_view database) {
    const bool is_home = home && home->database == database;
    const bool is_narrow = user != nullptr && !user->all_tenants;
    // Called like somebody's tenant, and no claim of it: to this user it isn't there.
    const bool is_others = is_narrow && snapshot.find_tenant(database) != nullptr && !may_speak_for(*user, database);
    if (database.empty() || is_home || (!is_others && snapshot.knows_database(database))) return {};
    std::string message = "database \"" + std::string(database) + "\" does not exist";
    if (is_narrow) message += ", or is a tenant that user \"" + user->name + "\" may not speak for";
    return fail(ErrorKind::not_found, std::move(message), {}, {}, std::string(unknown_database));
}

}  // namespace

bool may_speak_for(const User& user, std::string_view tenant) {
    return user.all_tenants || std::binary_search(user.tenants.begin(), user.tenants.end(), tenant);
}

Result<Route> route(const Snapshot& snapshot, const std::optional<HomeConfig>& home, const User* user,
                    std::string_view tenant, std::string_view database) {
    if (tenant.empty()) {
        PP_TRY(check_database(snapshot, home, user, database));
        if (!home) return no_tenant_named();
        if (snapshot.find_cluster(home->cluster) == nullptr)
            return cluster_is_missing("the home database", home->cluster);
        return Route{RouteKind::home, nullptr, home->cluster, home->database};
    }
    TenantPtr found = snapshot.find_tenant(tenant);
    if (!found || (user != nullptr && !may_speak_for(*user, tenant))) return no_such_tenant(user, tenant);
    PP_TRY(check_database(snapshot, home, user, database));
    if (found->state == TenantState::suspended) {
        return fail(ErrorKind::unavailable, "tenant \"" + found->name + "\" is suspended", {}, {},
                    std::string(cannot_connect_now));
    }
    const auto& placement = found->placement;
    if (snapshot.find_cluster(placement.cluster) == nullptr)
        return cluster_is_missing("this tenant", placement.cluster);
    return Route{RouteKind::tenant, found, placement.cluster, placement.database};
}

}  // namespace pgporter
