#include "catalog/address_block.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <string>

namespace pgporter {
namespace {

constexpr unsigned v4_bits = 32;
constexpr unsigned v6_bits = 128;

std::optional<AddressBlock> parse_address(std::string_view text) {
    const std::string address(text);
    AddressBlock block;
    if (address.find('\0') != std::string::npos) return std::nullopt;
    if (inet_pton(AF_INET, address.c_str(), block.bytes.data()) == 1) {
        block.prefix = v4_bits;
        return block;
    }
    block.is_v6 = true;
    block.prefix = v6_bits;
    if (inet_pton(AF_INET6, address.c_str(), block.bytes.data()) != 1) return std::nullopt;
    return block;
}

void unwrap_v4(AddressBlock& address) {
    constexpr std::array<std::uint8_t, 12> wrap{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (!address.is_v6 || !std::equal(wrap.begin(), wrap.end(), address.bytes.begin())) return;
    std::copy(address.bytes.begin() + wrap.size(), address.bytes.end(), address.bytes.begin());
    std::fill(address.bytes.begin() + 4, address.bytes.end(), std::uint8_t{0});
    address.is_v6 = false;
    address.prefix = v4_bits;
}

bool bit(const AddressBlock& block, unsigned index) {
    return ((block.bytes[index / 8] >> (7 - index % 8)) & 1) != 0;
}

}  // namespace

std::optional<AddressBlock> parse_address_block(std::string_view text) {
    const auto slash = text.find('/');
    auto block = parse_address(text.substr(0, slash));
    if (!block || slash == std::string_view::npos) return block;
    const std::string_view digits = text.substr(slash + 1);
    const unsigned bits = block->prefix;
    unsigned prefix = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
    if (error != std::errc{} || end != digits.data() + digits.size() || prefix > bits) return std::nullopt;
    for (unsigned i = prefix; i < bits; ++i) {
        if (bit(*block, i)) return std::nullopt;
    }
    block->prefix = prefix;
    return block;
}

bool contains(const AddressBlock& block, std::string_view address) {
    auto found = parse_address(address.substr(0, address.find('%')));  // without the zone of a link-local address
    if (!found) return false;
    unwrap_v4(*found);
    if (found->is_v6 != block.is_v6) return false;
    for (unsigned i = 0; i < block.prefix; ++i) {
        if (bit(*found, i) != bit(block, i)) return false;
    }
    return true;
}

}  // namespace pgporter
