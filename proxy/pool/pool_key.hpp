// PoolKey: what a pool's server connections have in common: where they lead, and as whom they have logged in. A plain value.
#pragma once

#include <compare>
#include <string>

#include "proxy/pool/server_address.hpp"

namespace pgporter {

struct PoolKey {
    ServerAddress address;
    std::string database;
    std::string user;
    friend auto operator<=>(const PoolKey&, const PoolKey&) = default;
};

}  // namespace pgporter
