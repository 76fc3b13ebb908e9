// Stream: one connection, plain or TLS, non-blocking. Reads and writes never wait; who gets want_read or want_write
// awaits readable() or writable() and tries again. Owned by a session or a server connection; used on its thread only.
//
// A stream may move to another thread: leave_thread() on the old one when nobody waits for it any more, enter_thread() on the new one.
//
// One reader and one writer at a time (TLS needs that). OpenSSL works on the socket directly: an idle TLS connection holds
// no buffer of ours. It must not: know PostgreSQL, keep deadlines (the owner closes the stream to end a wait).
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "proxy/net/listener_tls.hpp"
#include "proxy/net/poller.hpp"
#include "proxy/net/tls_context.hpp"
#include "proxy/net/types.hpp"
#include "proxy/net/waiter.hpp"

namespace pgporter {

enum class IoStatus { ok, want_read, want_write, closed, failed };

// Why a handshake failed, as far as it can be told.
enum class TlsFailure { none, closed, alpn, certificate, version_or_cipher, refused_by_peer, other };

struct IoResult {
    IoStatus status = IoStatus::ok;
    std::size_t bytes = 0;  // only with ok
};

class Stream {
  public:
    // Open, and on the thread of its context.
    // Closes it.
    struct Descriptor {
        explicit Descriptor(int fd = -1) : value(fd) {}
        Descriptor(Descriptor&& other) noexcept : value(std::exchange(other.value, -1)) {}
        Descriptor& operator=(Descriptor&&) = delete;
        ~Descriptor();
        int value;
    };
    explicit Stream(Socket socket);
    // Of a connected, non-blocking socket that Asio doesn't know.
    Stream(asio::io_context& context, Descriptor descriptor);
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream();

    [[nodiscard]] IoResult read_some(char* into, std::size_t size);
    [[nodiscard]] IoResult write_some(std::string_view bytes);
    // True when the socket is ready; false when the stream was closed meanwhile.
    [[nodiscard]] auto readable() {
        return wait_by([this](Waiter waiter) { wait_for_input(std::move(waiter)); });
    }
    // The same for who is no coroutine.
    void when_readable(Waiter waiter) { wait_for_input(std::move(waiter)); }
    // Whoever waits for that looks again.
    void wake_readers() { readiness_->wake_readers(); }
    // Only behind a write that was not taken.
    [[nodiscard]] auto writable() {
        return wait_by([this](Waiter waiter) { readiness_->wait_for_room(std::move(waiter)); });
    }
    // Waits for whatever a result asked for.
    [[nodiscard]] Task<bool> ready_for(IoStatus wanted);
    // Decrypted bytes that wait inside OpenSSL: the socket would not become readable for them.
    [[nodiscard]] bool has_buffered_input() const;
    // True when the peer has closed or sent something, without taking it (a look before an idle connection is lent).
    [[nodiscard]] bool has_input_or_closed() const;

    // True when the peer has closed and nothing is left to be read.
    [[nodiscard]] bool is_closed_by_peer() const;

    // The first byte that waits in the socket, without taking it. Only while the stream is plain.
    [[nodiscard]] IoResult peek(char& byte);

    // `is_direct`: the client began with TLS, without asking by SSLRequest; then it must say by ALPN that it means PostgreSQL.
    [[nodiscard]] Task<Result<void>> accept_tls(CertificateSetPtr certificates, bool is_direct);
    // `verify_host` empty: the name in the certificate isn't checked.
    [[nodiscard]] Task<Result<void>> connect_tls(std::shared_ptr<TlsContext> context, std::string server_name, bool verify_host);
    [[nodiscard]] bool is_tls() const { return tls_ != nullptr; }
    // The last read has taken all there was. Not known behind a read over TLS, which takes a record and doesn't look beyond it: false.
    [[nodiscard]] bool is_used_up() const { return readiness_ && !readiness_->has_input(); }
    [[nodiscard]] TlsFailure tls_failure() const { return tls_failure_; }
    // The name that the client asked for (SNI); empty: none, or no TLS.
    [[nodiscard]] const std::string& server_name() const { return handshake_.server_name; }
    // Channel binding tls-server-end-point: of our certificate after accept_tls, of the peer's after connect_tls. Empty: no TLS, or not defined.
    [[nodiscard]] std::string server_end_point() const;
    // The certificate that the client showed, which has been verified. `common_name` nullopt: it has none that is usable.
    struct ClientCertificate {
        std::optional<std::string> common_name;
    };
    [[nodiscard]] std::optional<ClientCertificate> client_certificate() const;

    // Writes all of `bytes`, waiting as needed.
    [[nodiscard]] Task<bool> write_all(std::string bytes);

    void interrupt();  // who waits for readiness is told that there is none; before leave_thread() only
    void leave_thread();
    void enter_thread(const Executor& executor);
    void close();
    [[nodiscard]] bool is_open() const { return descriptor_.value >= 0; }
    [[nodiscard]] int descriptor() const { return descriptor_.value; }
    // See Readiness.
    void go_first() { readiness_->go_first(); }
    [[nodiscard]] bool is_quiet() const { return readiness_->is_quiet() && !has_buffered_input(); }

  private:
    void wait_for_input(Waiter waiter);
    [[nodiscard]] IoResult tls_result(int returned);
    [[nodiscard]] Task<Result<void>> handshake();
    [[nodiscard]] TlsFailure failure_of(IoStatus status, long verified) const;

    Descriptor descriptor_;
    std::optional<Readiness> readiness_;  // none: between two threads
    SSL* tls_ = nullptr;
    ServerHandshake handshake_;
    TlsFailure tls_failure_ = TlsFailure::none;
};

}  // namespace pgporter
