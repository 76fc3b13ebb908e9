#include "admin/api/http_server.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "admin/api/auth.hpp"
#include "admin/api/connection.hpp"
#include "admin/api/server_core.hpp"
#include "base/close_on_exec.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

using boost::asio::ip::tcp;

// A burst of failing accepts (out of descriptors) must not spin.
constexpr std::chrono::milliseconds accept_pause{100};

}  // namespace

class HttpServer::Impl {
  public:
    explicit Impl(ApiPorts ports) : ports_(std::move(ports)) {}
    ~Impl() { stop(); }

    Result<void> start();
    void stop();
    std::uint16_t port() const { return port_; }

  private:
    Result<void> bind();
    void accept();
    void take(tcp::socket socket);

    const ApiPorts ports_;
    // Declared in the order in which they may go, last first: handlers that io_ still keeps use core_.
    std::unique_ptr<ServerCore> core_;
    std::unique_ptr<boost::asio::io_context> io_;
    std::unique_ptr<tcp::acceptor> acceptor_;
    std::unique_ptr<boost::asio::steady_timer> pause_;
    std::thread thread_;
    std::uint16_t port_ = 0;
};

Result<void> HttpServer::Impl::bind() {
    const auto& admin = ports_.config.admin;
    boost::system::error_code ec;
    const auto address = boost::asio::ip::make_address(admin.address, ec);
    if (ec) return fail(ErrorKind::invalid, "admin.address isn't a numeric address", admin.address);
    if (!address.is_loopback() && !admin.insecure_remote) {
        return fail(ErrorKind::invalid, "the admin API speaks plain HTTP and listens on loopback only", admin.address,
                    "put a TLS proxy in front, or set admin.insecure_remote: true");
    }
    if (!address.is_loopback() && admin.token.empty()) {
        return fail(ErrorKind::invalid, "an admin API beyond loopback needs a token", admin.address, "set admin.token_file");
    }
    const tcp::endpoint endpoint(address, admin.port);
    const auto where = admin.address + " port " + std::to_string(admin.port);
    acceptor_->open(endpoint.protocol(), ec);
    if (!ec) close_on_exec(acceptor_->native_handle());
    if (!ec) acceptor_->set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor_->bind(endpoint, ec);
    if (!ec) acceptor_->listen(boost::asio::socket_base::max_listen_connections, ec);
    if (ec) {
        return fail(ErrorKind::unavailable, "the admin API can't listen on " + where, ec.message(),
                    "is another pgporter running? choose another admin.port");
    }
    port_ = acceptor_->local_endpoint(ec).port();
    return {};
}

Result<void> HttpServer::Impl::start() {
    io_ = std::make_unique<boost::asio::io_context>(1);
    acceptor_ = std::make_unique<tcp::acceptor>(*io_);
    if (auto bound = bind(); !bound) {
        acceptor_.reset();
        io_.reset();
        return bound.error();
    }
    pause_ = std::make_unique<boost::asio::steady_timer>(*io_);
    core_ = std::make_unique<ServerCore>(ports_, *io_);
    core_->events.open();
    accept();
    thread_ = std::thread([this] { io_->run(); });
    log::info("admin_api_listening", {{"address", ports_.config.admin.address},
                                      {"port", std::to_string(port_)},
                                      {"token", ports_.config.admin.token.empty() ? "none: only health and metrics" : "required"}});
    return {};
}

void HttpServer::Impl::accept() {
    acceptor_->async_accept([this](boost::system::error_code ec, tcp::socket socket) {
        if (ec == boost::asio::error::operation_aborted) return;
        if (!ec) {
            take(std::move(socket));
            accept();
            return;
        }
        log::warning("api_accept_failed", {{"error", ec.message()}});
        pause_->expires_after(accept_pause);
        pause_->async_wait([this](boost::system::error_code wait_ec) {
            if (!wait_ec) accept();
        });
    });
}

void HttpServer::Impl::take(tcp::socket socket) {
    boost::system::error_code ec;
    if (core_->connections >= ApiLimits::connections_max) {
        core_->refused.inc();
        static constexpr std::string_view busy =
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n";
        socket.non_blocking(true, ec);
        socket.write_some(boost::asio::buffer(busy), ec);  // best effort: it never waits
        return;
    }
    close_on_exec(socket.native_handle());
    socket.set_option(tcp::no_delay(true), ec);
    std::make_shared<Connection>(*core_, std::move(socket))->start();
}

void HttpServer::Impl::stop() {
    if (!core_) return;
    core_->events.close();
    io_->stop();
    if (thread_.joinable()) thread_.join();
    core_->work->stop();  // what has begun ends, what hasn't is dropped
    core_->work->join();
    core_->work.reset();
    pause_.reset();
    acceptor_.reset();
    io_.reset();  // drops every connection: their handlers still see core_
    core_.reset();
}

HttpServer::HttpServer(ApiPorts ports) : impl_(std::make_unique<Impl>(std::move(ports))) {}
HttpServer::~HttpServer() = default;
Result<void> HttpServer::start() { return impl_->start(); }
void HttpServer::stop() { impl_->stop(); }
std::uint16_t HttpServer::port() const { return impl_->port(); }

}  // namespace pgporter
