#include "proxy/net/tls_context.hpp"

#include <openssl/err.h>

namespace pgporter {
namespace {

// libpq's asynchronous interface stalls on records larger than its read buffer.
constexpr long record_bytes_max = 8192;
// Of TLS 1.2 only what keeps old traffic secret when the key is lost, with modern hashes; TLS 1.3 has nothing else.
constexpr const char* tls12_ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!SHA1:!aNULL";

// What both sides share: TLS 1.2 or newer, no renegotiation, and buffers that an idle connection gives back.
void harden(SSL_CTX* context) {
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_max_send_fragment(context, record_bytes_max);
    // A key with a passphrase is an error, not a question on somebody's terminal.
    SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return 0; });
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

Result<std::shared_ptr<TlsContext>> TlsContext::create(const SSL_METHOD* side) {
    SSL_CTX* native = SSL_CTX_new(side);
    if (native == nullptr) return fail(ErrorKind::internal, "can't create a TLS context", take_tls_error());
    std::shared_ptr<TlsContext> context(new TlsContext(native));
    harden(native);
    return context;
}

Result<std::shared_ptr<TlsContext>> TlsContext::for_listener(const CertificateFiles& files, const ClientVerification& clients, bool tls13_only) {
    Result<std::shared_ptr<TlsContext>> context = create(TLS_server_method());
    if (!context) return context;
    SSL_CTX* native = (*context)->context_;
    if (tls13_only) SSL_CTX_set_min_proto_version(native, TLS1_3_VERSION);
    SSL_CTX_set_options(native, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    // No resumption: it would carry a client's certificate past a revocation, and a server name past a change of certificates.
    SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(native, 0);
    if (SSL_CTX_set_cipher_list(native, tls12_ciphers) != 1) {
        return fail(ErrorKind::internal, "OpenSSL knows none of our TLS ciphers", take_tls_error());
    }
    PP_TRY((*context)->load(files));
    if (!clients.ca_file.empty()) PP_TRY((*context)->verify_clients(clients));
    return context;
}

Result<void> TlsContext::load(const CertificateFiles& files) {
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context_, files.certificate_file.c_str()) != 1) {
        return fail(ErrorKind::invalid, "can't read the TLS certificate " + files.certificate_file, take_tls_error(),
                    "tls_certificate_file must name a PEM file with the certificate chain");
    }
    // The second check finds a key of another kind than the certificate's, which OpenSSL would keep beside it.
    if (SSL_CTX_use_PrivateKey_file(context_, files.key_file.c_str(), SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(context_) != 1) {
        return fail(ErrorKind::invalid,
                    "can't use the TLS key " + files.key_file + " for the certificate " + files.certificate_file, take_tls_error(),
                    "tls_key_file must name the PEM key, without a passphrase, that belongs to the certificate");
    }
    return {};
}

Result<void> TlsContext::verify_clients(const ClientVerification& clients) {
    STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(clients.ca_file.c_str());
    if (names == nullptr || SSL_CTX_load_verify_locations(context_, clients.ca_file.c_str(), nullptr) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return fail(ErrorKind::invalid, "can't read the certificate authority of clients " + clients.ca_file, take_tls_error(),
                    "tls_client_ca_file must name a PEM file");
    }
    SSL_CTX_set_client_CA_list(context_, names);  // which certificate to show: clients with several choose by it
    if (!clients.crl_file.empty()) {
        X509_STORE* store = SSL_CTX_get_cert_store(context_);
        if (X509_STORE_load_locations(store, clients.crl_file.c_str(), nullptr) != 1) {
            return fail(ErrorKind::invalid, "can't read the revocation list " + clients.crl_file, take_tls_error(),
                        "tls_client_crl_file must name a PEM file with the lists of all authorities in the chain");
        }
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    }
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    return {};
}

Result<std::shared_ptr<TlsContext>> TlsContext::for_server(const std::string& ca_file) {
    Result<std::shared_ptr<TlsContext>> context = create(TLS_client_method());
    if (!context) return context;
    SSL_CTX* native = (*context)->context_;
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
