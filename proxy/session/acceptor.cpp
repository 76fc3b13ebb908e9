#include "proxy/session/acceptor.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "base/log.hpp"

namespace pgporter {

namespace {

ListenerTlsOptions tls_options_of(const ListenConfig& config) {
    ListenerTlsOptions options;
    options.certificates.push_back({config.tls_certificate_file, config.tls_key_file});
    for (const TlsCertificateConfig& more : config.tls_certificates) options.certificates.push_back({more.certificate_file, more.key_file});
    options.clients = {config.tls_client_ca_file, config.tls_client_crl_file};
    options.tls13_only = config.tls_protocols_min == TlsProtocol::tls13;
    return options;
}

}  // namespace

Acceptor::Acceptor(DataPathShared& shared, std::shared_ptr<const Listener> listener)
    : shared_(shared),
      listener_(std::move(listener)),
      acceptor_(shared.workers.front()->thread().executor()),
      pause_(shared.workers.front()->thread().executor()) {}

Result<std::shared_ptr<Acceptor>> Acceptor::open(DataPathShared& shared, const ListenConfig& config) {
    auto listener = std::make_shared<Listener>();
    listener->config = config;
    if (config.tls != ClientTls::disable) {
        Result<std::shared_ptr<ListenerTls>> tls = ListenerTls::load(tls_options_of(config));
        if (!tls) return tls.error();
        listener->tls = *tls;
    }
    const std::string where = config.address + ":" + std::to_string(config.port);
    boost::system::error_code error;
    const auto address = asio::ip::make_address(config.address, error);
    if (error) return fail(ErrorKind::invalid, "listen.address " + config.address + " is not a numeric address");
    auto self = std::make_shared<Acceptor>(shared, listener);
    const asio::ip::tcp::endpoint endpoint(address, config.port);
    self->acceptor_.open(endpoint.protocol(), error);
    if (!error) self->acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) self->acceptor_.bind(endpoint, error);
    if (!error) self->acceptor_.listen(4096, error);
    if (error) {
        return fail(ErrorKind::conflict, "can't listen on " + where + ": " + error.message(), {},
                    "stop what listens there, or change listen in the configuration");
    }
    self->port_ = self->acceptor_.local_endpoint().port();
    return self;
}

void Acceptor::run() {
    asio::co_spawn(acceptor_.get_executor(), accept_loop(shared_from_this()), asio::detached);
}

void Acceptor::stop() {
    stopped_ = true;
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
}

Task<> Acceptor::accept_loop(std::shared_ptr<Acceptor> self) {
    while (!self->stopped_) {
        auto [error, socket] = co_await self->acceptor_.async_accept(as_result);
        if (!error) {
            self->hand_over(socket.release());
            continue;
        }
        if (self->stopped_) break;
        // Out of descriptors or memory: accepting again at once would only burn the processor.
        log::warning("accept_failed", {{"reason", error.message()}});
        self->pause_.expires_after(std::chrono::milliseconds(100));
        [[maybe_unused]] const auto [cancelled] = co_await self->pause_.async_wait(as_result);
    }
}

void Acceptor::hand_over(int fd) {
    Worker* worker = shared_.workers[next_worker_++ % shared_.workers.size()].get();
    worker->thread().post([worker, fd, listener = listener_] {
        sockaddr_storage address{};
        socklen_t size = sizeof address;
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
        boost::system::error_code error;
        Socket socket(worker->thread().executor());
        socket.assign(asio::generic::stream_protocol(address.ss_family, IPPROTO_TCP), fd, error);
        if (error) {
            ::close(fd);
            return;
        }
        Session::start(*worker, std::move(socket), listener);
    });
}

}  // namespace pgporter
