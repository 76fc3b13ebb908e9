// ServerAddress: where a cluster's server listens and how TLS is used with it. A value; part of a pool's key, so that a changed
// cluster entry means new connections.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/tenant.hpp"
#include "proxy/net/io_thread.hpp"
#include "proxy/net/types.hpp"

namespace pgporter {

struct ServerAddress {
    std::string cluster;
    std::string host;  // name, address, or directory of a Unix-domain socket
    std::uint16_t port = 5432;
    ServerTls tls = ServerTls::disable;
    std::string tls_ca_file;

    explicit ServerAddress() = default;
    explicit ServerAddress(const Cluster& entry)
        : cluster(entry.name), host(entry.host), port(entry.port), tls(entry.tls), tls_ca_file(entry.tls_ca_file) {}

    [[nodiscard]] bool is_local_socket() const { return !host.empty() && host.front() == '/'; }
    friend auto operator<=>(const ServerAddress&, const ServerAddress&) = default;
};

// A connected socket. `unavailable` on failure; the message names the cluster, not the address.
// The name service, and one try after the other of the addresses that it knows, within the time.
[[nodiscard]] Task<Result<Socket>> connect_socket(IoThread& thread, ServerAddress address, Milliseconds ms_max);

}  // namespace pgporter
