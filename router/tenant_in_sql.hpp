// Which tenant do a session's settings name? A pure function of configuration, catalog and of what the session has set by SQL; any thread.
//
// A tenant is named by  pgporter.tenant  its name;  a tenant setting (identify.tenant_settings)  its key;  a JSON setting  its key at the
// configured path;  search_path  the schema of a tenant in the list. All that name one must agree. What only names shared schemas, or
// nothing, names nobody: then the login's tenant holds, if there is one.
// Whoever may not be spoken for can't be told from who doesn't exist.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/snapshot.hpp"
#include "router/scoped_settings.hpp"

namespace pgporter {

// Who asks, from where.
struct Asker {
    const User* user = nullptr;        // null: nobody was asked (trust); may speak for all
    std::string_view login_tenant;     // named at login; empty: none
    std::string_view current_tenant;   // whose context the session has now; where schemas of one name are in several databases, it is meant
    std::string_view cluster;          // and else the one that lives here
    std::string_view database;
};

// Does this setting (in lower case) name tenants?
[[nodiscard]] bool names_tenants(const IdentifyConfig& config, std::string_view setting);

// The tenant that this one setting names: empty: nobody. An error that is certain, whatever else is set: unknown, not allowed, the schemas
// of two tenants, a schema of nobody's (3F000; a tenant that the login named may have further schemas, if it lives alone or the user may
// speak for everybody), no JSON. What may not be spoken for and what doesn't exist are never told apart.
[[nodiscard]] Result<std::string> tenant_named_by(const IdentifyConfig& config, const Snapshot& snapshot, const Asker& asker,
                                                  std::string_view setting, std::string_view value);

// The tenant that all settings together name, else the login's; empty: none.
[[nodiscard]] Result<std::string> tenant_in_force(const IdentifyConfig& config, const Snapshot& snapshot, const Asker& asker,
                                                  const ScopedSettings::Values& effective);

}  // namespace pgporter
