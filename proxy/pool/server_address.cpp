#include "proxy/pool/server_address.hpp"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <memory>
#include <vector>

#include "base/close_on_exec.hpp"
#include "proxy/net/event.hpp"

namespace pgporter {
namespace {

Error cannot_connect(const ServerAddress& address, const boost::system::error_code& error) {
    return fail(ErrorKind::unavailable, "can't connect to the server of cluster \"" + address.cluster + "\"", error.message(),
                "see that the server runs and that the cluster's host and port are right", "08001");
}

// Queries are small and latency matters.
void tune(Socket& socket) {
    const int on = 1;
    ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

using Endpoints = std::vector<asio::ip::tcp::endpoint>;

// A look at the name service, which nothing can interrupt: who waits for it may leave before it ends.
struct Lookup {
    explicit Lookup(const Executor& executor) : ended(executor) {}
    Event ended;
    boost::system::error_code error = asio::error::timed_out;
    Endpoints endpoints;
};

Task<> look_up(std::shared_ptr<Lookup> lookup, Executor executor, std::string host, std::string port) {
    asio::ip::basic_resolver<asio::ip::tcp, Executor> resolver(executor);
    const auto [error, found] = co_await resolver.async_resolve(host, port, as_result);
    lookup->error = error;
    for (const auto& entry : found) lookup->endpoints.push_back(entry.endpoint());
    lookup->ended.notify();
}

Task<Endpoints> endpoints_of(IoThread& thread, const ServerAddress& address, Milliseconds ms_max, boost::system::error_code& error) {
    const auto numeric = asio::ip::make_address(address.host, error);
    if (!error) co_return Endpoints{{numeric, address.port}};
    const auto lookup = std::make_shared<Lookup>(thread.executor());
    Deadline deadline(thread.wheel());
    deadline.arm(ms_max, [raw = lookup.get()] { raw->ended.notify(); });
    asio::co_spawn(thread.executor(), look_up(lookup, thread.executor(), address.host, std::to_string(address.port)), asio::detached);
    co_await lookup->ended.wait();
    error = lookup->error;
    co_return lookup->endpoints;
}

// One try; a server that doesn't even answer costs no more than the time.
Task<boost::system::error_code> connect_within(IoThread& thread, Socket& socket, asio::generic::stream_protocol::endpoint endpoint, Milliseconds ms_max) {
    boost::system::error_code error;
    socket.close(error);
    socket.open(endpoint.protocol(), error);
    if (error) co_return error;
    close_on_exec(socket.native_handle());
    Deadline deadline(thread.wheel());
    deadline.arm(ms_max, [&socket] {
        boost::system::error_code ignored;
        socket.close(ignored);
    });
    const auto [failed] = co_await socket.async_connect(endpoint, as_result);
    co_return socket.is_open() ? failed : asio::error::timed_out;
}

}  // namespace

Task<Result<Socket>> connect_socket(IoThread& thread, ServerAddress address, Milliseconds ms_max) {
    Socket socket(thread.executor());
    if (address.is_local_socket()) {
        const asio::local::stream_protocol::endpoint endpoint(address.host + "/.s.PGSQL." + std::to_string(address.port));
        const auto error = co_await connect_within(thread, socket, endpoint, ms_max);
        if (error) co_return cannot_connect(address, error);
        co_return std::move(socket);
    }
    const auto until = std::chrono::steady_clock::now() + ms_max;
    boost::system::error_code last;
    const Endpoints endpoints = co_await endpoints_of(thread, address, ms_max, last);
    if (last) co_return cannot_connect(address, last);
    last = asio::error::host_not_found;
    for (std::size_t i = 0; i < endpoints.size(); ++i) {
        // One address that is dead leaves the others their time.
        const auto left = std::chrono::duration_cast<Milliseconds>(until - std::chrono::steady_clock::now());
        const auto share = std::max(left / static_cast<int>(endpoints.size() - i), Milliseconds(1));
        last = co_await connect_within(thread, socket, endpoints[i], share);
        if (!last) break;
    }
    if (last) co_return cannot_connect(address, last);
    tune(socket);
    co_return std::move(socket);
}

}  // namespace pgporter
