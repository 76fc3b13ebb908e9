#include "proxy/pool/server_address.hpp"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include "base/close_on_exec.hpp"

namespace pgporter {
namespace {

Error cannot_connect(const ServerAddress& address, const boost::system::error_code& error) {
    return fail(ErrorKind::unavailable, "can't connect to the server of cluster \"" + address.cluster + "\"", error.message(),
                "see that the server runs and that the cluster's host and port are right", "08001");
}

// Queries are small and latency matters; a dead peer must be noticed within minutes even while we only read.
void tune(Socket& socket) {
    const int on = 1;
    const int idle_seconds = 60;
    const int interval_seconds = 15;
    const int probes = 4;
    const int fd = socket.native_handle();
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof idle_seconds);
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_seconds, sizeof interval_seconds);
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

}  // namespace

Task<Result<Socket>> connect_socket(Executor executor, ServerAddress address) {
    Socket socket(executor);
    if (address.is_local_socket()) {
        const asio::local::stream_protocol::endpoint endpoint(address.host + "/.s.PGSQL." + std::to_string(address.port));
        boost::system::error_code opened;
        socket.open(endpoint.protocol(), opened);
        if (opened) co_return cannot_connect(address, opened);
        close_on_exec(socket.native_handle());
        const auto [error] = co_await socket.async_connect(endpoint, as_result);
        if (error) co_return cannot_connect(address, error);
        co_return std::move(socket);
    }
    asio::ip::basic_resolver<asio::ip::tcp, Executor> resolver(executor);
    const auto [resolve_error, endpoints] =
        co_await resolver.async_resolve(address.host, std::to_string(address.port), as_result);
    if (resolve_error) co_return cannot_connect(address, resolve_error);
    boost::system::error_code last = asio::error::host_not_found;
    for (const auto& entry : endpoints) {
        boost::system::error_code ignored;
        socket.close(ignored);
        socket.open(entry.endpoint().protocol(), last);
        if (last) continue;
        close_on_exec(socket.native_handle());
        const auto [error] = co_await socket.async_connect(entry.endpoint(), as_result);
        last = error;
        if (!error) break;
    }
    if (last) co_return cannot_connect(address, last);
    tune(socket);
    co_return std::move(socket);
}

}  // namespace pgporter
