// TlsContext: an OpenSSL context for one certificate of a listener, or for one cluster (verification). Built at start, at a reload or
// on the first connection; shared, immutable afterwards; any thread. Which of a listener's contexts a client gets: proxy/net/listener_tls.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "base/result.hpp"

namespace pgporter {

struct CertificateFiles {
    std::string certificate_file;  // PEM chain
    std::string key_file;          // PEM

    friend auto operator<=>(const CertificateFiles&, const CertificateFiles&) = default;
};

struct ClientVerification {    // of the clients of a listener
    std::string ca_file;       // PEM; empty: clients aren't asked for a certificate
    std::string crl_file;      // PEM; empty: nothing is revoked
};

class TlsContext {
  public:
    // Clients are asked for a certificate where `clients` has an authority; one that shows none gets through the handshake (it is told in words,
    // later), one that shows a wrong one doesn't.
    static Result<std::shared_ptr<TlsContext>> for_listener(const CertificateFiles& files, const ClientVerification& clients, bool tls13_only);
    // `ca_file` empty: the peer's certificate isn't verified (encryption only).
    static Result<std::shared_ptr<TlsContext>> for_server(const std::string& ca_file);

    TlsContext(const TlsContext&) = delete;
    TlsContext& operator=(const TlsContext&) = delete;
    ~TlsContext();

    [[nodiscard]] SSL_CTX* native() const { return context_; }
    [[nodiscard]] X509* certificate() const { return SSL_CTX_get0_certificate(context_); }

  private:
    explicit TlsContext(SSL_CTX* context) : context_(context) {}
    static Result<std::shared_ptr<TlsContext>> create(const SSL_METHOD* side);
    [[nodiscard]] Result<void> load(const CertificateFiles& files);
    [[nodiscard]] Result<void> verify_clients(const ClientVerification& clients);

    SSL_CTX* context_;
};

// The newest OpenSSL error of this thread as text, and an empty error queue.
std::string take_tls_error();

}  // namespace pgporter
