// Where does a session run? A pure function of the catalog and of who speaks for which tenant. For clients that have
// authenticated: its errors tell what exists. A decision is a value; nobody looks at the input again.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

enum class RouteKind { tenant, home };

struct Route {
    RouteKind kind = RouteKind::home;
    TenantPtr tenant;  // null for home
    std::string cluster;
    std::string database;
};

// `user` null means that nobody was asked (trust): may speak for all. `tenant` empty: none is named, the session runs
// at home. `database` is what the client called it (Identity::database): it must be a name that exists, but the tenant
// alone decides.
[[nodiscard]] Result<Route> route(const Snapshot& snapshot, const std::optional<HomeConfig>& home, const User* user,
                                  std::string_view tenant, std::string_view database);

[[nodiscard]] bool may_speak_for(const User& user, std::string_view tenant);

}  // namespace pgporter
