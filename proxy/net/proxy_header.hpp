// The PROXY protocol, version 2: the header that a load balancer puts before a client's bytes to say where the client is. Pure functions
// over values; any thread. Only for listeners that require it: on any other one these bytes are just a client's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/ip_address.hpp"

namespace pgporter {

// Signature, command, family, length.
inline constexpr std::size_t proxy_header_fixed_bytes = 16;

struct ProxyHeader {
    enum class Status {
        need_more,  // `bytes` in all are needed to go on; reading more than that would take the client's own bytes
        complete,
        malformed,  // `problem` says why, for a log
    };
    Status status = Status::need_more;
    std::size_t bytes = proxy_header_fixed_bytes;
    // LOCAL: the balancer speaks for itself (a health check); the connection's own address holds.
    bool is_local = false;
    // PROXY with an address; nullopt: UNSPEC (the connection's own address holds) or a Unix-domain socket over there.
    std::optional<IpAddress> client;
    std::uint16_t client_port = 0;
    bool is_unix = false;
    std::string_view problem;  // a literal
};

// `input` is what came so far, at most the `bytes` that were asked for. `bytes_max` bounds the whole header.
[[nodiscard]] ProxyHeader parse_proxy_header(std::string_view input, std::size_t bytes_max);

}  // namespace pgporter
