// IpAddress and CidrBlock: where a client comes from, as values. IPv4 is kept as the IPv6 address ::ffff:a.b.c.d that it is on a dual-stack
// socket, so that both spellings are the same client. Pure; any thread. It must not resolve names.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

struct sockaddr;

namespace pgporter {

struct IpAddress {
    std::array<std::uint8_t, 16> bytes{};

    [[nodiscard]] bool is_v4() const;
    friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

// A numeric IPv4 or IPv6 address, without a zone.
[[nodiscard]] std::optional<IpAddress> parse_ip(std::string_view text);
[[nodiscard]] IpAddress ip_from_v4_bytes(std::string_view four);
[[nodiscard]] IpAddress ip_from_v6_bytes(std::string_view sixteen);
// Nullopt for anything but AF_INET and AF_INET6 (a Unix-domain socket has no address).
[[nodiscard]] std::optional<IpAddress> ip_from_sockaddr(const sockaddr& address);
[[nodiscard]] std::string to_text(const IpAddress& address);
// The address with all but its first bits zeroed; `bits` counts within the family (24 of an IPv4 address).
[[nodiscard]] IpAddress masked(const IpAddress& address, unsigned bits);

struct CidrBlock {
    IpAddress network;
    unsigned bits = 128;  // of the 128: an IPv4 /24 is 120 here

    [[nodiscard]] bool contains(const IpAddress& address) const;
};

// "10.0.0.0/8", "2001:db8::/32", "::ffff:10.0.0.0/104", or one address. Bits behind the prefix must be zero, as for PostgreSQL's type cidr: a slip
// like 10.0.0.1/8 is an error and not a wide-open door.
[[nodiscard]] std::optional<CidrBlock> parse_cidr(std::string_view text);

}  // namespace pgporter
