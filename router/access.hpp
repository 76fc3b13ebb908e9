// Access: as whom a server connection serves a tenant, and what of its context the client must not change. A pure function of
// configuration and catalog; the same for every way in which the tenant was named. See docs/isolation.md for what each mode stops.
//
//   mode    login_user           role               the client may change its role
//   app     the session's user   tenant.role or ""  yes: PostgreSQL's grants decide
//   role    the session's user   tenant.role        no (guards_role)
//   login   tenant.role          ""                 yes: PostgreSQL has nothing else to give
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

struct Access {
    std::string login_user;
    std::string role;           // SET ROLE; empty: the login's own
    std::string setting;        // the database's tenant_setting; empty: it has none
    std::string setting_value;  // the tenant's key
    bool guards_role = false;
    // The setting names no tenant in SQL here (identify), so a statement that changes it is refused.
    bool guards_setting = false;
    bool is_read_only = false;  // the tenant's state: transactions begin so, and stay so
    friend bool operator==(const Access&, const Access&) = default;
};

// Errors (58000) are the operator's to mend: a tenant without the role, or a role without the password, that its database's
// isolation needs. Never another role instead.
[[nodiscard]] Result<Access> access_for(const Config& config, const Snapshot& snapshot, const Tenant& tenant,
                                        std::string_view session_user);

// Null: run-time parameters that the client asked for at startup leave what `access` guards alone.
[[nodiscard]] std::optional<Error> startup_settings_trouble(const Access& access,
                                                            const std::vector<std::pair<std::string, std::string>>& settings);
// Null: what is true after a transaction is what `access` guards. `setting` null: it isn't known.
[[nodiscard]] std::optional<Error> left_access(const Access& access, std::string_view role, const std::string* setting);

}  // namespace pgporter
