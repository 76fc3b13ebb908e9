#include "proxy/net/tls_context.hpp"

#include <openssl/err.h>

namespace pgporter {
namespace {

// What both sides share: TLS 1.2 or newer, no renegotiation, and buffers that an idle connection gives back.
void harden(SSL_CTX* context) {
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // libpq's asynchronous interface stalls on records larger than its read buffer.
    SSL_CTX_set_max_send_fragment(context, 8192);
}

}  // namespace

std::string take_tls_error() {
    std::string text = "unknown TLS error";
    if (const unsigned long code = ERR_peek_last_error(); code != 0) {
        if (const char* reason = ERR_reason_error_string(code)) text = reason;
    }
    ERR_clear_error();
    return text;
}

Result<std::shared_ptr<TlsContext>> TlsContext::for_listener(const std::string& certificate_file, const std::string& key_file) {
    SSL_CTX* native = SSL_CTX_new(TLS_server_method());
    if (native == nullptr) return fail(ErrorKind::internal, "can't create a TLS context", take_tls_error());
    std::shared_ptr<TlsContext> context(new TlsContext(native));
    harden(native);
    SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_use_certificate_chain_file(native, certificate_file.c_str()) != 1) {
        return fail(ErrorKind::invalid, "can't read the TLS certificate " + certificate_file, take_tls_error(),
                    "listen.tls_certificate_file must name a PEM file with the certificate chain");
    }
    if (SSL_CTX_use_PrivateKey_file(native, key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
        return fail(ErrorKind::invalid, "can't read the TLS key " + key_file, take_tls_error(),
                    "listen.tls_key_file must name the PEM key that belongs to the certificate");
    }
    return context;
}

Result<std::shared_ptr<TlsContext>> TlsContext::for_server(const std::string& ca_file) {
    SSL_CTX* native = SSL_CTX_new(TLS_client_method());
    if (native == nullptr) return fail(ErrorKind::internal, "can't create a TLS context", take_tls_error());
    std::shared_ptr<TlsContext> context(new TlsContext(native));
    harden(native);
    if (ca_file.empty()) {
        SSL_CTX_set_verify(native, SSL_VERIFY_NONE, nullptr);
        return context;
    }
    if (SSL_CTX_load_verify_locations(native, ca_file.c_str(), nullptr) != 1) {
        return fail(ErrorKind::invalid, "can't read the certificate authority " + ca_file, take_tls_error(),
                    "the cluster's tls_ca_file must name a PEM file");
    }
    SSL_CTX_set_verify(native, SSL_VERIFY_PEER, nullptr);
    return context;
}

TlsContext::~TlsContext() {
    SSL_CTX_free(context_);
}

}  // namespace pgporter
