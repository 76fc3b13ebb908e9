// AddressBlock: a CIDR block of client addresses (10.0.0.0/8, 2001:db8::/32, or one address). Pure values; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace pgporter {

struct AddressBlock {
    bool is_v6 = false;
    std::array<std::uint8_t, 16> bytes{};  // in network order; an IPv4 address uses four
    unsigned prefix = 0;                   // how many leading bits count
    friend bool operator==(const AddressBlock&, const AddressBlock&) = default;
};

// Nullopt: no block; also where bits behind the prefix are set, which is more likely a mistake than meant.
[[nodiscard]] std::optional<AddressBlock> parse_address_block(std::string_view text);

// `address` is a numeric one, as a socket tells it. An IPv4 address in IPv6's clothes (::ffff:10.0.0.1) is the IPv4 address.
[[nodiscard]] bool contains(const AddressBlock& block, std::string_view address);

}  // namespace pgporter
