#include "proxy/session/acceptor.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>

#include "base/close_on_exec.hpp"
#include "base/log.hpp"
#include "base/memory_reserve.hpp"
#include "proxy/net/process_limits.hpp"
#include "proxy/net/silence.hpp"

namespace pgporter {
namespace {

constexpr int backlog = 4096;

// Linux hands them on to every connection that is accepted: so they cost no system calls for each.
void set_options_of_clients(int fd, const LimitsConfig& limits) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    ask_idle_peer(fd, limits.client_silent_ms_max);
    // Its window may stay closed for client_write_ms_max.
    if (limits.client_silent_ms_max.count() != 0) bound_unacknowledged(fd, std::max(limits.client_silent_ms_max, limits.client_write_ms_max));
}

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
    auto self = std::make_shared<Acceptor>(shared, listener);
    PP_TRY(config.is_local_socket() ? self->listen_local() : self->listen_tcp());
    return self;
}

Result<void> Acceptor::listen_tcp() {
    const ListenConfig& config = listener_->config;
    boost::system::error_code error;
    const auto address = asio::ip::make_address(config.address, error);
    if (error) return fail(ErrorKind::invalid, "listen.address " + config.address + " is not a numeric address");
    const asio::ip::tcp::endpoint endpoint(address, config.port);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) close_on_exec(acceptor_.native_handle());
    if (!error) set_options_of_clients(acceptor_.native_handle(), shared_.config.limits);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(backlog, error);
    if (error) {
        return fail(ErrorKind::conflict, "can't listen on " + config.address + ":" + std::to_string(config.port) + ": " + error.message(), {},
                    "stop what listens there, or change listen in the configuration");
    }
    sockaddr_in6 bound{};
    socklen_t size = sizeof bound;
    const bool known = ::getsockname(acceptor_.native_handle(), reinterpret_cast<sockaddr*>(&bound), &size) == 0;
    if (known) port_ = ntohs(bound.sin6_port);  // IPv4 has it in the same place
    return {};
}

Result<void> Acceptor::listen_local() {
    const ListenConfig& config = listener_->config;
    Result<std::unique_ptr<LocalSocketFile>> claimed = LocalSocketFile::claim(config.socket_directory, config.port);
    if (!claimed) return claimed.error();
    local_ = std::move(*claimed);
    boost::system::error_code error;
    const asio::local::stream_protocol::endpoint endpoint(local_->path());
    acceptor_.open(endpoint.protocol(), error);
    if (!error) close_on_exec(acceptor_.native_handle());
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) PP_TRY(local_->set_permissions(static_cast<mode_t>(config.socket_permissions)));
    if (!error) acceptor_.listen(backlog, error);
    if (error) {
        return fail(ErrorKind::conflict, "can't listen on " + local_->path() + ": " + error.message(), {},
                    "listen.socket_directory must be a directory that pgporter may write to");
    }
    port_ = config.port;
    return {};
}

void Acceptor::run() {
    boost::system::error_code ignored;  // a listening socket can't refuse this
    acceptor_.native_non_blocking(true, ignored);
    asio::co_spawn(acceptor_.get_executor(), accept_loop(shared_from_this()), asio::detached);
}

void Acceptor::stop() {
    stopped_ = true;
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    local_.reset();  // the path is free for whoever comes next, while our sessions drain
    pause_.cancel();
}

Task<> Acceptor::accept_loop(std::shared_ptr<Acceptor> self) {
    while (!self->stopped_) {
        const auto [error] = co_await self->acceptor_.async_wait(asio::socket_base::wait_read, as_result);
        if (self->stopped_) break;
        if (!error && self->accept_some()) continue;
        // Out of descriptors or memory: accepting again at once would only burn the processor.
        self->note_failure(error ? error.message() : std::generic_category().message(errno));
        self->pause_.expires_after(std::chrono::milliseconds(100));
        [[maybe_unused]] const auto [cancelled] = co_await self->pause_.async_wait(as_result);
    }
}

// Asio would register each of them, for a moment. False: see errno.
bool Acceptor::accept_some() {
    constexpr int at_once_max = 64;  // then it is the others' turn
    for (int i = 0; i < at_once_max; ++i) {
        const int fd = ::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            hand_over(fd);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return true;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return false;
        }
    }
    return true;
}

void Acceptor::note_failure(const std::string& reason) {
    shared_.session_metrics.accept_failures.inc();
    const auto now = std::chrono::steady_clock::now();
    if (failure_logged_at_ != SteadyTime{} && now - failure_logged_at_ < std::chrono::seconds(10)) return;
    failure_logged_at_ = now;
    log::warning("accept_failed", {{"reason", reason}});
}

// The kernel gives the lowest number that is free: it tells how many are in use. What server connections may still need isn't the clients'.
Acceptor::Place Acceptor::place_for(int fd) const {
    const auto all = static_cast<std::int64_t>(std::min<std::uint64_t>(descriptors_max(), INT64_MAX));
    const std::int64_t for_servers = std::int64_t{shared_.server_connections_max.load()} - shared_.pool_metrics.server_connections.value();
    const std::int64_t reserved = std::min(std::max<std::int64_t>(0, for_servers) + shared_.config.limits.descriptors_reserved, all / 2);
    if (fd < all - reserved) return Place::free;
    return fd < all - reserved + reserved / 4 ? Place::told_no : Place::closed;
}

// Of several the next in turn.
Worker& Acceptor::least_loaded() {
    const auto& workers = shared_.workers;
    const std::size_t first = ++next_worker_;
    Worker* least = workers[first % workers.size()].get();
    for (std::size_t i = 1; i < workers.size(); ++i) {
        Worker* other = workers[(first + i) % workers.size()].get();
        if (other->clients.value() < least->clients.value()) least = other;
    }
    return *least;
}

void Acceptor::hand_over(int fd) {
    const bool has_memory = !memory_reserve::is_short();
    const Place place = has_memory ? place_for(fd) : Place::closed;
    if (!has_memory) shared_.memory.count_refusal();
    if (has_memory && place != Place::free) shared_.session_metrics.descriptor_refusals.inc();
    if (place == Place::closed) {
        ::close(fd);
        return;
    }
    Worker* worker = &least_loaded();
    // Until the session counts itself.
    auto counted = std::shared_ptr<void>(nullptr, [worker](void*) { worker->clients.add(-1); });
    worker->clients.add(1);
    worker->thread().post([worker, fd, counted = std::move(counted), listener = listener_, is_one_too_many = place == Place::told_no] {
        try {
            Session::start(*worker, Stream::Descriptor(fd), listener, is_one_too_many);
        } catch (const std::bad_alloc&) {  // the client sees its connection closed
            log::warning("session_failed", {{"reason", "out of memory"}});
        }
    });
}

}  // namespace pgporter
