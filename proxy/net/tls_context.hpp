// TlsContext: an OpenSSL context for one listener (certificate and key) or for one cluster (verification). Built at start or
// on the first connection; shared, immutable afterwards; any thread.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "base/result.hpp"

namespace pgporter {

class TlsContext {
  public:
    static Result<std::shared_ptr<TlsContext>> for_listener(const std::string& certificate_file, const std::string& key_file);
    // `ca_file` empty: the peer's certificate isn't verified (encryption only).
    static Result<std::shared_ptr<TlsContext>> for_server(const std::string& ca_file);

    TlsContext(const TlsContext&) = delete;
    TlsContext& operator=(const TlsContext&) = delete;
    ~TlsContext();

    [[nodiscard]] SSL_CTX* native() const { return context_; }

  private:
    explicit TlsContext(SSL_CTX* context) : context_(context) {}
    SSL_CTX* context_;
};

// The newest OpenSSL error of this thread as text, and an empty error queue.
std::string take_tls_error();

}  // namespace pgporter
