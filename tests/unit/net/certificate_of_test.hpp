// Certificates made for a test, in its own folder.
#pragma once

#include <doctest/doctest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "proxy/net/tls_context.hpp"

namespace pgporter::test {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

inline Key make_key(const char* kind = "EC") {
    EVP_PKEY* key = std::string_view(kind) == "EC"    ? EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")
                    : std::string_view(kind) == "RSA" ? EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{2048})
                                                      : EVP_PKEY_Q_keygen(nullptr, nullptr, kind);
    REQUIRE(key != nullptr);
    return Key(key, &EVP_PKEY_free);
}

// Self-signed; `common_names` and `alternatives` ("DNS:a,DNS:b") may be empty. `digest` null: the key's own way of signing.
inline Certificate make_certificate(EVP_PKEY* key, const std::vector<std::string>& common_names, const std::string& alternatives, const EVP_MD* digest,
                                    long days = 2) {
    Certificate certificate(X509_new(), &X509_free);
    X509_set_version(certificate.get(), X509_VERSION_3);
    static long serial = 0;
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), days * 86'400);
    X509_set_pubkey(certificate.get(), key);
    for (const std::string& name : common_names) {
        X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(name.data()), static_cast<int>(name.size()), -1, 0);
    }
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get()));
    if (!alternatives.empty()) {
        X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, alternatives.c_str());
        REQUIRE(extension != nullptr);
        X509_add_ext(certificate.get(), extension, -1);
        X509_EXTENSION_free(extension);
    }
    REQUIRE(X509_sign(certificate.get(), key, digest) != 0);
    return certificate;
}

class CertificateFolder {
  public:
    CertificateFolder() {
        std::string path = (std::filesystem::temp_directory_path() / "pgporter-tls-XXXXXX").string();
        REQUIRE(::mkdtemp(path.data()) != nullptr);
        folder = path;
    }
    ~CertificateFolder() { std::filesystem::remove_all(folder); }
    // Writes NAME.crt and NAME.key, each in one step.
    CertificateFiles make(const std::string& name, const std::string& alternatives, const char* kind = "EC", long days = 2) const {
        const Key key = make_key(kind);
        const Certificate certificate = make_certificate(key.get(), {name}, alternatives, EVP_sha256(), days);
        CertificateFiles files{folder + "/" + name + ".crt", folder + "/" + name + ".key"};
        write(files.certificate_file, [&](FILE* out) { PEM_write_X509(out, certificate.get()); });
        write(files.key_file, [&](FILE* out) { PEM_write_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
        return files;
    }
    void write_text(const std::string& path, const std::string& text) const {
        write(path, [&](FILE* out) { std::fwrite(text.data(), 1, text.size(), out); });
    }
    static std::string read_text(const std::string& path) {
        std::ifstream in(path);
        return {std::istreambuf_iterator<char>(in), {}};
    }

    std::string folder;

  private:
    template <class Write>
    static void write(const std::string& path, const Write& put) {
        FILE* out = std::fopen((path + ".new").c_str(), "w");
        REQUIRE(out != nullptr);
        put(out);
        std::fclose(out);
        std::filesystem::rename(path + ".new", path);  // another file, whatever the clock says
    }
};

}  // namespace pgporter::test
