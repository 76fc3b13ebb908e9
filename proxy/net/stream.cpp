#include "proxy/net/stream.hpp"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include <boost/asio/ip/address.hpp>

#include "base/close_on_exec.hpp"
#include "proxy/net/certificate.hpp"
#include "proxy/net/socket_calls.hpp"

namespace pgporter {

Stream::Descriptor::~Descriptor() {
    if (value >= 0) ::close(value);
}

Stream::Stream(Socket socket)
    : descriptor_(socket.native_handle()), readiness_(std::in_place, Poller::of(socket.get_executor().context()), descriptor_.value) {
    boost::system::error_code ignored;  // an accepted or connected socket can't refuse this
    socket.native_non_blocking(true, ignored);
    close_on_exec(descriptor_.value);
    socket.release(ignored);
}

Stream::Stream(asio::io_context& context, Descriptor descriptor)
    : descriptor_(std::move(descriptor)), readiness_(std::in_place, Poller::of(context), descriptor_.value) {}

Stream::~Stream() {
    close();
    if (tls_ != nullptr) SSL_free(tls_);
}

IoResult Stream::tls_result(int returned) {
    if (returned > 0) return {IoStatus::ok, static_cast<std::size_t>(returned)};
    switch (SSL_get_error(tls_, returned)) {
        case SSL_ERROR_WANT_READ: readiness_->used_up(); return {IoStatus::want_read, 0};
        case SSL_ERROR_WANT_WRITE: return {IoStatus::want_write, 0};
        case SSL_ERROR_ZERO_RETURN: return {IoStatus::closed, 0};
        default: return {IoStatus::failed, 0};
    }
}

IoResult Stream::read_some(char* into, std::size_t size) {
    if (!is_open()) return {IoStatus::closed, 0};
    if (tls_ != nullptr) {
        ERR_clear_error();
        return tls_result(SSL_read(tls_, into, static_cast<int>(size)));
    }
    while (true) {
        const ssize_t got = receive_now(descriptor_.value, into, size);
        if (got > 0) {
            // A stream's socket gives all it has, up to what is asked for.
            if (static_cast<std::size_t>(got) < size) readiness_->used_up();
            return {IoStatus::ok, static_cast<std::size_t>(got)};
        }
        if (got == 0) return {IoStatus::closed, 0};
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) return {IoStatus::failed, 0};
        readiness_->used_up();
        return {IoStatus::want_read, 0};
    }
}

IoResult Stream::write_some(std::string_view bytes) {
    if (!is_open()) return {IoStatus::closed, 0};
    if (bytes.empty()) return {IoStatus::ok, 0};
    if (tls_ != nullptr) {
        ERR_clear_error();
        return tls_result(SSL_write(tls_, bytes.data(), static_cast<int>(std::min<std::size_t>(bytes.size(), 1U << 20))));
    }
    while (true) {
        const ssize_t sent = send_now(descriptor_.value, bytes.data(), bytes.size());
        if (sent >= 0) return {IoStatus::ok, static_cast<std::size_t>(sent)};
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return {IoStatus::want_write, 0};
        return {IoStatus::failed, 0};
    }
}

void Stream::wait_for_input(Waiter waiter) {
    // OpenSSL reads no more than the message it is at, and doesn't say whether that was all.
    if (tls_ != nullptr && readiness_->has_input() && !has_buffered_input() && !has_input_or_closed()) readiness_->used_up();
    readiness_->wait_for_input(std::move(waiter));
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
    const ssize_t got = receive_now(descriptor_.value, &byte, 1, MSG_PEEK);
    return got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

bool Stream::is_closed_by_peer() const {
    if (has_buffered_input()) return false;
    char byte = 0;
    const ssize_t got = receive_now(descriptor_.value, &byte, 1, MSG_PEEK);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

IoResult Stream::peek(char& byte) {
    if (!is_open()) return {IoStatus::closed, 0};
    while (true) {
        const ssize_t got = receive_now(descriptor_.value, &byte, 1, MSG_PEEK);
        if (got > 0) return {IoStatus::ok, 1};
        if (got == 0) return {IoStatus::closed, 0};
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) return {IoStatus::failed, 0};
        readiness_->used_up();
        return {IoStatus::want_read, 0};
    }
}

Task<Result<void>> Stream::accept_tls(CertificateSetPtr certificates, bool is_direct) {
    handshake_.certificates = std::move(certificates);
    handshake_.needs_alpn = is_direct;
    tls_ = SSL_new(handshake_.certificates->first()->native());
    if (tls_ == nullptr) co_return fail(ErrorKind::internal, "can't create a TLS connection", take_tls_error());
    SSL_set_fd(tls_, descriptor_.value);
    prepare_server_handshake(tls_, handshake_);
    Result<void> done = co_await handshake();
    handshake_.certificates.reset();  // after a reload only handshakes keep the old ones
    co_return done;
}

Task<Result<void>> Stream::connect_tls(std::shared_ptr<TlsContext> context, std::string server_name, bool verify_host) {
    tls_ = SSL_new(context->native());  // which keeps the context
    if (tls_ == nullptr) co_return fail(ErrorKind::internal, "can't create a TLS connection", take_tls_error());
    SSL_set_fd(tls_, descriptor_.value);
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
        if (!is_open()) co_return fail(ErrorKind::unavailable, "the connection was closed during the TLS handshake");
        ERR_clear_error();
        const IoResult result = tls_result(SSL_do_handshake(tls_));
        if (result.status == IoStatus::ok) co_return Result<void>{};
        if (result.status == IoStatus::closed || result.status == IoStatus::failed) {
            const long verified = SSL_get_verify_result(tls_);
            tls_failure_ = failure_of(result.status, verified);
            std::string why = take_tls_error();
            if (verified != X509_V_OK) why = X509_verify_cert_error_string(verified);
            co_return fail(ErrorKind::unavailable, "the TLS handshake failed", why);
        }
        const bool ready = co_await ready_for(result.status);
        if (!ready) co_return fail(ErrorKind::unavailable, "the connection was closed during the TLS handshake");
    }
}

// To be called before the error queue is emptied.
TlsFailure Stream::failure_of(IoStatus status, long verified) const {
    if (handshake_.lacked_alpn) return TlsFailure::alpn;
    if (verified != X509_V_OK) return TlsFailure::certificate;
    const unsigned long code = ERR_peek_last_error();
    if (status == IoStatus::closed || code == 0) return TlsFailure::closed;
    switch (const int reason = ERR_GET_REASON(code)) {
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_NO_SHARED_CIPHER:
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        case SSL_R_WRONG_VERSION_NUMBER: return TlsFailure::version_or_cipher;
        case SSL_R_UNEXPECTED_EOF_WHILE_READING: return TlsFailure::closed;
        default: return reason > SSL_AD_REASON_OFFSET ? TlsFailure::refused_by_peer : TlsFailure::other;
    }
}

std::string Stream::server_end_point() const {
    if (tls_ == nullptr) return {};
    if (SSL_is_server(tls_) == 1) return server_end_point_of(SSL_get_certificate(tls_));
    const std::unique_ptr<X509, decltype(&X509_free)> peer(SSL_get1_peer_certificate(tls_), &X509_free);
    return peer ? server_end_point_of(peer.get()) : std::string();
}

std::optional<Stream::ClientCertificate> Stream::client_certificate() const {
    if (tls_ == nullptr || SSL_get_verify_result(tls_) != X509_V_OK) return std::nullopt;
    X509* peer = SSL_get0_peer_certificate(tls_);
    if (peer == nullptr) return std::nullopt;
    return ClientCertificate{common_name_of(peer)};
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

void Stream::interrupt() {
    readiness_->stop();
}

void Stream::leave_thread() {
    readiness_.reset();
}

void Stream::enter_thread(const Executor& executor) {
    Poller& poller = Poller::of(executor.context());
    try {
        readiness_.emplace(poller, descriptor_.value);
    } catch (const std::system_error&) {  // the kernel has no room for it: it is found closed
        ::close(std::exchange(descriptor_.value, -1));
        readiness_.emplace(poller, -1);
    }
}

void Stream::close() {
    if (!is_open()) return;
    if (tls_ != nullptr && SSL_is_init_finished(tls_)) {
        ERR_clear_error();
        SSL_shutdown(tls_);  // best effort close_notify; never waits
        ERR_clear_error();
    }
    if (readiness_) readiness_->stop();
    ::close(std::exchange(descriptor_.value, -1));
}

}  // namespace pgporter
