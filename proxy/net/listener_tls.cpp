#include "proxy/net/listener_tls.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "proxy/net/certificate.hpp"

namespace pgporter {
namespace {

constexpr std::string_view alpn_protocol = "postgresql";
constexpr std::size_t host_name_bytes_max = 255;

// Before anything else of a ClientHello is looked at: the only place where a missing ALPN can still be answered with its own alert.
int on_client_hello(SSL* tls, int* alert, void*) {
    auto* handshake = static_cast<ServerHandshake*>(SSL_get_app_data(tls));
    const unsigned char* data = nullptr;
    std::size_t size = 0;
    if (!handshake->needs_alpn || SSL_client_hello_get0_ext(tls, TLSEXT_TYPE_application_layer_protocol_negotiation, &data, &size) == 1) {
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    handshake->lacked_alpn = true;
    *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    return SSL_CLIENT_HELLO_ERROR;
}

int on_server_name(SSL* tls, int*, void*) {
    auto* handshake = static_cast<ServerHandshake*>(SSL_get_app_data(tls));
    const char* name = SSL_get_servername(tls, TLSEXT_NAMETYPE_host_name);
    if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
    handshake->server_name = name;
    if (handshake->server_name.size() > host_name_bytes_max) return SSL_TLSEXT_ERR_ALERT_FATAL;
    SSL_set_SSL_CTX(tls, handshake->certificates->find(name)->native());
    return SSL_TLSEXT_ERR_OK;
}

// Called only when the client offers protocols: then ours must be among them (as in PostgreSQL; against cross-protocol attacks).
int on_alpn(SSL* tls, const unsigned char** chosen, unsigned char* chosen_size, const unsigned char* offered, unsigned int offered_size, void*) {
    std::string_view rest(reinterpret_cast<const char*>(offered), offered_size);
    while (!rest.empty()) {
        const auto size = static_cast<unsigned char>(rest.front());
        const std::string_view name = rest.substr(1, size);
        if (name == alpn_protocol) {
            *chosen = reinterpret_cast<const unsigned char*>(name.data());
            *chosen_size = size;
            return SSL_TLSEXT_ERR_OK;
        }
        rest.remove_prefix(std::min<std::size_t>(rest.size(), std::size_t{1} + size));
    }
    static_cast<ServerHandshake*>(SSL_get_app_data(tls))->lacked_alpn = true;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

std::string in_lower_case(std::string_view name) {
    std::string lower(name);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return lower;
}

}  // namespace

void prepare_server_handshake(SSL* tls, ServerHandshake& handshake) {
    SSL_set_app_data(tls, &handshake);
    SSL_set_accept_state(tls);
}

Result<std::shared_ptr<const CertificateSet>> CertificateSet::load(const ListenerTlsOptions& options) {
    std::shared_ptr<CertificateSet> set(new CertificateSet());
    for (const CertificateFiles& files : options.certificates) {
        Result<std::shared_ptr<TlsContext>> context = TlsContext::for_listener(files, options.clients, options.tls13_only);
        if (!context) return context.error();
        set->add(*std::move(context));
    }
    return std::shared_ptr<const CertificateSet>(std::move(set));
}

void CertificateSet::add(std::shared_ptr<TlsContext> context) {
    SSL_CTX* native = context->native();
    SSL_CTX_set_client_hello_cb(native, &on_client_hello, nullptr);
    SSL_CTX_set_tlsext_servername_callback(native, &on_server_name);
    SSL_CTX_set_alpn_select_cb(native, &on_alpn, nullptr);
    const std::int64_t expiry = expiry_of(context->certificate());
    if (contexts_.empty() || expiry < expires_at_) expires_at_ = expiry;
    for (std::string& name : host_names_of(context->certificate())) by_name_.try_emplace(std::move(name), contexts_.size());
    contexts_.push_back(std::move(context));
}

const std::shared_ptr<TlsContext>& CertificateSet::find(std::string_view server_name) const {
    const std::string name = in_lower_case(server_name);
    auto found = by_name_.find(name);
    if (const auto dot = name.find('.'); found == by_name_.end() && dot != std::string::npos && dot > 0) {
        found = by_name_.find("*" + name.substr(dot));  // a wildcard stands for one label
    }
    return found == by_name_.end() ? contexts_.front() : contexts_[found->second];
}

Result<std::shared_ptr<ListenerTls>> ListenerTls::load(ListenerTlsOptions options) {
    std::shared_ptr<ListenerTls> self(new ListenerTls(std::move(options)));
    Result<bool> loaded = self->reload(true);
    if (!loaded) return loaded.error();
    return self;
}

CertificateSetPtr ListenerTls::current() const {
    const std::lock_guard lock(mutex_);
    return current_;
}

Result<bool> ListenerTls::reload(bool in_any_case) {
    // Looked at first: a file that changes while it is read will differ the next time.
    std::vector<FileState> files = look_at_files();
    if (!in_any_case && files == files_) return false;
    files_ = std::move(files);
    Result<CertificateSetPtr> loaded = CertificateSet::load(options_);
    if (!loaded) return loaded.error();
    const std::lock_guard lock(mutex_);
    current_ = *std::move(loaded);
    return true;
}

std::vector<ListenerTls::FileState> ListenerTls::look_at_files() const {
    std::vector<FileState> states;
    const auto look = [&](const std::string& path) {
        struct stat now{};
        if (path.empty() || ::stat(path.c_str(), &now) != 0) now = {};  // gone: that is a state too
        states.emplace_back(now.st_dev, now.st_ino, now.st_size, std::int64_t{now.st_mtim.tv_sec} * 1'000'000'000 + now.st_mtim.tv_nsec);
    };
    for (const CertificateFiles& files : options_.certificates) {
        look(files.certificate_file);
        look(files.key_file);
    }
    look(options_.clients.ca_file);
    look(options_.clients.crl_file);
    return states;
}

}  // namespace pgporter
