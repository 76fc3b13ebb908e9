#include "catalog/tls_keys.hpp"

#include <unistd.h>

#include "catalog/secret_source.hpp"

namespace pgporter {
namespace {

constexpr std::size_t certificates_max = 1'000;  // all are read anew when one changes

void read_file_path(YamlMapping& mapping, std::string_view key, std::string& out, const std::string& directory) {
    mapping.text(key, out);
    out = resolve_path(out, directory);
    if (!out.empty() && ::access(out.c_str(), R_OK) != 0) mapping.problem(key, "the file " + out + " can't be read");
}

void read_certificates(YamlMapping& mapping, const std::string& directory, ListenConfig& listener) {
    for (const auto& item : mapping.list("tls_certificates")) {
        YamlMapping pair = mapping.inner(item);
        TlsCertificateConfig& more = listener.tls_certificates.emplace_back();
        pair.require({"certificate_file", "key_file"});
        read_file_path(pair, "certificate_file", more.certificate_file, directory);
        read_file_path(pair, "key_file", more.key_file, directory);
        pair.finish();
    }
    if (listener.tls_certificates.size() > certificates_max) {
        mapping.problem("tls_certificates", "are more than " + std::to_string(certificates_max));
    }
    if (!listener.tls_certificates.empty() && listener.tls == ClientTls::disable) mapping.problem("tls_certificates", "need tls: allow or require");
}

void read_client_certificates(YamlMapping& mapping, const std::string& directory, ListenConfig& listener) {
    read_file_path(mapping, "tls_client_ca_file", listener.tls_client_ca_file, directory);
    read_file_path(mapping, "tls_client_crl_file", listener.tls_client_crl_file, directory);
    mapping.choice("tls_client_certificate", listener.tls_client_certificate,
                   {{"verify_ca", ClientCertificateCheck::verify_ca}, {"verify_full", ClientCertificateCheck::verify_full}});
    const bool has_authority = mapping.has("tls_client_ca_file");
    if (has_authority && listener.tls != ClientTls::require) {
        mapping.problem("tls_client_ca_file", "needs tls: require, or a client without TLS would need no certificate");
    }
    if (!has_authority && mapping.has("tls_client_crl_file")) mapping.problem("tls_client_crl_file", "needs tls_client_ca_file");
    if (!has_authority && mapping.has("tls_client_certificate")) mapping.problem("tls_client_certificate", "needs tls_client_ca_file");
    if (listener.auth != ClientAuth::cert) return;
    if (!has_authority) mapping.problem("auth", "cert needs tls_client_ca_file");
    if (mapping.has("tls_client_certificate") && listener.tls_client_certificate == ClientCertificateCheck::verify_ca) {
        mapping.problem("tls_client_certificate", "auth: cert always compares the certificate's name with the user's");
    }
}

}  // namespace

void read_listener_tls(YamlMapping& mapping, const std::string& directory, ListenConfig& listener) {
    read_file_path(mapping, "tls_certificate_file", listener.tls_certificate_file, directory);
    read_file_path(mapping, "tls_key_file", listener.tls_key_file, directory);
    mapping.choice("auth", listener.auth, {{"scram", ClientAuth::scram}, {"cert", ClientAuth::cert}, {"peer", ClientAuth::peer}, {"trust", ClientAuth::trust}});
    mapping.choice("tls_protocols_min", listener.tls_protocols_min, {{"TLSv1.2", TlsProtocol::tls12}, {"TLSv1.3", TlsProtocol::tls13}});
    read_certificates(mapping, directory, listener);
    read_client_certificates(mapping, directory, listener);
}

}  // namespace pgporter
