#include "base/ip_address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace pgporter {
namespace {

constexpr std::array<std::uint8_t, 12> v4_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr unsigned v4_prefix_bits = 96;

IpAddress keep_bits(IpAddress address, unsigned bits) {
    for (unsigned i = 0; i < address.bytes.size(); ++i) {
        const unsigned before = i * 8;
        if (before >= bits) {
            address.bytes[i] = 0;
        } else if (bits - before < 8) {
            address.bytes[i] = static_cast<std::uint8_t>(address.bytes[i] & (0xff00U >> (bits - before)));
        }
    }
    return address;
}

}  // namespace

bool IpAddress::is_v4() const {
    return std::equal(v4_prefix.begin(), v4_prefix.end(), bytes.begin());
}

IpAddress ip_from_v4_bytes(std::string_view four) {
    IpAddress address;
    std::copy(v4_prefix.begin(), v4_prefix.end(), address.bytes.begin());
    std::memcpy(address.bytes.data() + v4_prefix.size(), four.data(), 4);
    return address;
}

IpAddress ip_from_v6_bytes(std::string_view sixteen) {
    IpAddress address;
    std::memcpy(address.bytes.data(), sixteen.data(), address.bytes.size());
    return address;
}

std::optional<IpAddress> parse_ip(std::string_view text) {
    const std::string terminated(text);
    if (terminated.find('\0') != std::string::npos) return std::nullopt;
    char bytes[16];
    if (inet_pton(AF_INET, terminated.c_str(), bytes) == 1) return ip_from_v4_bytes({bytes, 4});
    if (inet_pton(AF_INET6, terminated.c_str(), bytes) == 1) return ip_from_v6_bytes({bytes, 16});
    return std::nullopt;
}

std::optional<IpAddress> ip_from_sockaddr(const sockaddr& address) {
    if (address.sa_family == AF_INET) {
        return ip_from_v4_bytes({reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in&>(address).sin_addr), 4});
    }
    if (address.sa_family == AF_INET6) {
        return ip_from_v6_bytes({reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr), 16});
    }
    return std::nullopt;
}

std::string to_text(const IpAddress& address) {
    char text[INET6_ADDRSTRLEN] = "";
    const bool v4 = address.is_v4();
    inet_ntop(v4 ? AF_INET : AF_INET6, address.bytes.data() + (v4 ? v4_prefix.size() : 0), text, sizeof text);
    return text;
}

IpAddress masked(const IpAddress& address, unsigned bits) {
    return keep_bits(address, address.is_v4() ? v4_prefix_bits + bits : bits);
}

bool CidrBlock::contains(const IpAddress& address) const {
    if (address.is_v4() && bits < v4_prefix_bits) return false;  // "::/0" means IPv6, as for PostgreSQL
    return keep_bits(address, bits) == network;
}

std::optional<CidrBlock> parse_cidr(std::string_view text) {
    const std::size_t slash = text.find('/');
    const std::string_view name = text.substr(0, slash);
    const auto address = parse_ip(name);
    if (!address) return std::nullopt;
    CidrBlock block{*address, 128};
    if (slash != std::string_view::npos) {
        const std::string_view digits = text.substr(slash + 1);
        // Spelled with dots alone it has 32 bits; "::ffff:10.0.0.0/104" counts all 128.
        const bool counts_32 = name.find(':') == std::string_view::npos;
        unsigned bits = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
        if (error != std::errc() || end != digits.data() + digits.size() || bits > (counts_32 ? 32U : 128U)) return std::nullopt;
        block.bits = counts_32 ? v4_prefix_bits + bits : bits;
    }
    if (keep_bits(block.network, block.bits) != block.network) return std::nullopt;
    return block;
}

}  // namespace pgporter
