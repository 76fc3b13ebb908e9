// ClientAddress: where a client is, for logs, throttles and allow-lists: what its socket says, or what the PROXY header said. A value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/ip_address.hpp"

namespace pgporter {

struct ClientAddress {
    std::optional<IpAddress> ip;  // null: a Unix-domain socket, here or at the load balancer
    std::uint16_t port = 0;

    [[nodiscard]] std::string text() const { return ip ? to_text(*ip) + " port " + std::to_string(port) : std::string("local"); }
};

// Of the other end of a connected socket.
[[nodiscard]] ClientAddress client_address_of(int fd);

}  // namespace pgporter
