#include "proxy/net/stream.hpp"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>

#include <boost/asio/ip/address.hpp>

namespace pgporter {

Stream::Stream(Socket socket) : socket_(std::move(socket)) {
    boost::system::error_code ignored;  // an accepted or connected socket can't refuse this
    socket_.native_non_blocking(true, ignored);
}

Stream::~Stream() {
    close();
    if (tls_ != nullptr) SSL_free(tls_);
}

IoResult Stream::tls_result(int returned) {
    if (returned > 0) return {IoStatus::ok, static_cast<std::size_t>(returned)};
    switch (SSL_get_error(tls_, returned)) {
        case SSL_ERROR_WANT_READ: return {IoStatus::want_read, 0};
        case SSL_ERROR_WANT_WRITE: return {IoStatus::want_write, 0};
        case SSL_ERROR_ZERO_RETURN: return {IoStatus::closed, 0};
        default: return {IoStatus::failed, 0};
    }
}

IoResult Stream::read_some(char* into, std::size_t size) {
    if (!socket_.is_open()) return {IoStatus::closed, 0};
    if (tls_ != nullptr) {
        ERR_clear_error();
        return tls_result(SSL_read(tls_, into, static_cast<int>(size)));
    }
    while (true) {
        const ssize_t got = ::recv(socket_.native_handle(), into, size, MSG_DONTWAIT);
        if (got > 0) return {IoStatus::ok, static_cast<std::size_t>(got)};
        if (got == 0) return {IoStatus::closed, 0};
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return {IoStatus::want_read, 0};
        return {IoStatus::failed, 0};
    }
}

IoResult Stream::write_some(std::string_view bytes) {
    if (!socket_.is_open()) return {IoStatus::closed, 0};
    if (bytes.empty()) return {IoStatus::ok, 0};
    if (tls_ != nullptr) {
        ERR_clear_error();
        return tls_result(SSL_write(tls_, bytes.data(), static_cast<int>(std::min<std::size_t>(bytes.size(), 1U << 20))));
    }
    while (true) {
        const ssize_t sent = ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) return {IoStatus::ok, static_cast<std::size_t>(sent)};
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return {IoStatus::want_write, 0};
        return {IoStatus::failed, 0};
    }
}

Task<bool> Stream::readable() {
    if (!socket_.is_open()) co_return false;
    const auto [error] = co_await socket_.async_wait(Socket::wait_read, as_result);
    co_return !error && socket_.is_open();
}

Task<bool> Stream::writable() {
    if (!socket_.is_open()) co_return false;
    const auto [error] = co_await socket_.async_wait(Socket::wait_write, as_result);
    co_return !error && socket_.is_open();
}

Task<bool> Stream::ready_for(IoStatus wanted) {
    bool ready = false;
    if (wanted == IoStatus::want_read) {
        ready = co_await readable();
    } else if (wanted == IoStatus::want_write) {
        ready = co_await writable();
    }
    co_return ready;
}

bool Stream::has_buffered_input() const {
    return tls_ != nullptr && SSL_pending(tls_) > 0;
}

bool Stream::has_input_or_closed() const {
    if (has_buffered_input()) return true;
    char byte = 0;
    auto& socket = const_cast<Socket&>(socket_);  // peeking changes nothing; Asio has no const native_handle()
    const ssize_t got = ::recv(socket.native_handle(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

bool Stream::is_closed_by_peer() const {
    if (has_buffered_input()) return false;
    char byte = 0;
    auto& socket = const_cast<Socket&>(socket_);  // peeking changes nothing; Asio has no const native_handle()
    const ssize_t got = ::recv(socket.native_handle(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

Task<Result<void>> Stream::accept_tls(std::shared_ptr<TlsContext> context) {
    context_ = std::move(context);
    tls_ = SSL_new(context_->native());
    if (tls_ == nullptr) co_return fail(ErrorKind::internal, "can't create a TLS connection", take_tls_error());
    SSL_set_fd(tls_, socket_.native_handle());
    SSL_set_accept_state(tls_);
    Result<void> done = co_await handshake();
    co_return done;
}

Task<Result<void>> Stream::connect_tls(std::shared_ptr<TlsContext> context, std::string server_name, bool verify_host) {
    context_ = std::move(context);
    tls_ = SSL_new(context_->native());
    if (tls_ == nullptr) co_return fail(ErrorKind::internal, "can't create a TLS connection", take_tls_error());
    SSL_set_fd(tls_, socket_.native_handle());
    SSL_set_connect_state(tls_);
    boost::system::error_code not_an_address;
    asio::ip::make_address(server_name, not_an_address);
    if (not_an_address) SSL_set_tlsext_host_name(tls_, server_name.c_str());
    if (verify_host) {
        X509_VERIFY_PARAM* parameters = SSL_get0_param(tls_);
        const int set = not_an_address ? X509_VERIFY_PARAM_set1_host(parameters, server_name.c_str(), server_name.size())
                                       : X509_VERIFY_PARAM_set1_ip_asc(parameters, server_name.c_str());
        if (set != 1) co_return fail(ErrorKind::internal, "can't verify the server's name", take_tls_error());
    }
    Result<void> done = co_await handshake();
    co_return done;
}

Task<Result<void>> Stream::handshake() {
    while (true) {
        if (!socket_.is_open()) co_return fail(ErrorKind::unavailable, "the connection was closed during the TLS handshake");
        ERR_clear_error();
        const IoResult result = tls_result(SSL_do_handshake(tls_));
        if (result.status == IoStatus::ok) co_return Result<void>{};
        if (result.status == IoStatus::closed || result.status == IoStatus::failed) {
            const long verified = SSL_get_verify_result(tls_);
            std::string why = take_tls_error();
            if (verified != X509_V_OK) why = X509_verify_cert_error_string(verified);
            co_return fail(ErrorKind::unavailable, "the TLS handshake failed", why);
        }
        const bool ready = co_await ready_for(result.status);
        if (!ready) co_return fail(ErrorKind::unavailable, "the connection was closed during the TLS handshake");
    }
}

Task<bool> Stream::write_all(std::string bytes) {
    std::string_view rest = bytes;
    while (!rest.empty()) {
        const IoResult result = write_some(rest);
        if (result.status == IoStatus::ok) {
            rest.remove_prefix(result.bytes);
            continue;
        }
        const bool ready = co_await ready_for(result.status);
        if (!ready) co_return false;
    }
    co_return true;
}

void Stream::close() {
    if (!socket_.is_open()) return;
    boost::system::error_code ignored;  // closing is the end either way
    if (tls_ != nullptr && SSL_is_init_finished(tls_)) {
        ERR_clear_error();
        SSL_shutdown(tls_);  // best effort close_notify; never waits
        ERR_clear_error();
    }
    socket_.close(ignored);
}

}  // namespace pgporter
