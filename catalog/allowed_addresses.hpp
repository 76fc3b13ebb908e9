// Tenant::allowed_addresses asked: may a client from there speak for the tenant? A pure function; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/ip_address.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {

// `blocks` empty: from everywhere. Nullopt stands for a client without an address (a Unix-domain socket), which no block contains. A block that can't
// be read contains nobody: a slip closes the door instead of opening it.
[[nodiscard]] bool is_address_allowed(const std::vector<std::string>& blocks, const std::optional<IpAddress>& client);
[[nodiscard]] inline bool is_address_allowed(const Tenant& tenant, const std::optional<IpAddress>& client) {
    return is_address_allowed(tenant.allowed_addresses, client);
}

}  // namespace pgporter
