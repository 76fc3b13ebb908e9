// What a tenant's access puts into a session's state: the role and the tenant setting. Pure; used when the session begins and whenever its
// tenant, or what the catalog says of it, has changed. One thread.
#pragma once

#include <algorithm>

#include "proxy/pool/context.hpp"
#include "router/access.hpp"

namespace pgporter {

inline constexpr const char* read_only_setting = "default_transaction_read_only";

// `before` is the access that `state` was made with. A role of the client's own stays, unless the new access guards the role.
inline void adopt_access(Context& state, const Access& before, const Access& after) {
    if (state.role == before.role || after.guards_role || before.guards_role) state.role = after.role;
    if (!before.setting.empty() && !same_name(before.setting, after.setting)) {
        std::erase_if(state.settings, [&](const auto& entry) { return same_name(entry.first, before.setting); });
    }
    if (!after.setting.empty()) put_setting(state.settings, after.setting, after.setting_value);
    if (before.is_read_only && !after.is_read_only) {
        std::erase_if(state.settings, [](const auto& entry) { return same_name(entry.first, read_only_setting); });
    }
    if (after.is_read_only) put_setting(state.settings, read_only_setting, "on");
}

// What the session may have changed, but not for its next transaction: RESET and functions can reach the tenant setting in every mode.
inline void keep_access(Context& state, const Access& access) {
    if (access.guards_role) state.role = access.role;
    if (!access.setting.empty()) put_setting(state.settings, access.setting, access.setting_value);
    if (access.is_read_only) put_setting(state.settings, read_only_setting, "on");
}

}  // namespace pgporter
