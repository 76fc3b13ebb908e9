#include "catalog/allowed_addresses.hpp"

#include <algorithm>

namespace pgporter {

bool is_address_allowed(const std::vector<std::string>& blocks, const std::optional<IpAddress>& client) {
    if (blocks.empty()) return true;
    if (!client) return false;
    return std::any_of(blocks.begin(), blocks.end(), [&](const std::string& text) {
        const auto block = parse_cidr(text);
        return block && block->contains(*client);
    });
}

}  // namespace pgporter
