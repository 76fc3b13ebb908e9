// ListenerTls: the certificates of one listener, chosen by the server name that a client asks for (SNI), and reloaded while it runs. Owned by the
// listener and shared with its sessions; thread-safe. A CertificateSet is immutable: a handshake keeps the one it began with, the next one gets the
// newest. ServerHandshake: what one handshake of ours as a server may and did agree on; owned by its Stream. It must not: know PostgreSQL but for
// the name of its ALPN.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "proxy/net/tls_context.hpp"

namespace pgporter {

struct ListenerTlsOptions {
    std::vector<CertificateFiles> certificates;  // at least one; the first is for clients that ask for no name, or for a name that no other has
    ClientVerification clients;
    bool tls13_only = false;
};

class CertificateSet {
  public:
    static Result<std::shared_ptr<const CertificateSet>> load(const ListenerTlsOptions& options);

    // The one for this name, in any case; a certificate for the whole name goes before one with a wildcard, and that before the first. Never null.
    [[nodiscard]] const std::shared_ptr<TlsContext>& find(std::string_view server_name) const;
    [[nodiscard]] const std::shared_ptr<TlsContext>& first() const { return contexts_.front(); }
    [[nodiscard]] std::int64_t expires_at() const { return expires_at_; }  // the first of them to expire; seconds since 1970

  private:
    CertificateSet() = default;
    void add(std::shared_ptr<TlsContext> context);

    std::vector<std::shared_ptr<TlsContext>> contexts_;
    std::unordered_map<std::string, std::size_t> by_name_;  // in lower case; wildcards as they are
    std::int64_t expires_at_ = 0;
};

using CertificateSetPtr = std::shared_ptr<const CertificateSet>;

class ListenerTls {
  public:
    static Result<std::shared_ptr<ListenerTls>> load(ListenerTlsOptions options);

    [[nodiscard]] CertificateSetPtr current() const;
    // Reads the files anew if one has changed since the last time, or in any case. True: there are new certificates. An error leaves the old ones
    // in use, and isn't repeated until a file changes again. One caller at a time.
    [[nodiscard]] Result<bool> reload(bool in_any_case);

  private:
    using FileState = std::tuple<dev_t, ino_t, off_t, std::int64_t>;

    explicit ListenerTls(ListenerTlsOptions options) : options_(std::move(options)) {}
    [[nodiscard]] std::vector<FileState> look_at_files() const;

    const ListenerTlsOptions options_;
    std::vector<FileState> files_;  // as they were when they were read
    mutable std::mutex mutex_;      // held for one copy of a pointer a handshake
    CertificateSetPtr current_;
};

struct ServerHandshake {
    CertificateSetPtr certificates;
    bool needs_alpn = false;   // TLS without being asked: only a client that says "postgresql" can mean us
    bool lacked_alpn = false;  // and this one didn't
    std::string server_name;   // as the client sent it; empty: none
};
// To be called before the handshake; `handshake` must live as long as `tls`.
void prepare_server_handshake(SSL* tls, ServerHandshake& handshake);

}  // namespace pgporter
