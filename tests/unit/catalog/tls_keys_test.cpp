// The keys of a listener that are about TLS.
#include "catalog/tls_keys.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "catalog/config_loader.hpp"

using namespace pgporter;

namespace {

class TlsFolder {
  public:
    TlsFolder() {
        std::string path = (std::filesystem::temp_directory_path() / "pgporter-tls-keys-XXXXXX").string();
        REQUIRE(::mkdtemp(path.data()) != nullptr);
        folder = path;
        for (const char* name : {"cert.pem", "key.pem", "more.crt", "more.key", "ca.crt", "ca.crl"}) std::ofstream(folder + "/" + name) << "x";
        std::ofstream(folder + "/token") << "0123456789abcdef-token\n";
        std::filesystem::permissions(folder + "/token", std::filesystem::perms::owner_read);
    }
    ~TlsFolder() { std::filesystem::remove_all(folder); }
    [[nodiscard]] Result<Config> parse(const std::string& listener) const {
        return parse_config("catalog: {dsn: 'host=127.0.0.1'}\nadmin: {token_file: token}\nlisten:\n- {" + listener + "}\n", "pgporter.yaml", folder);
    }

    std::string folder;
};

const std::string pair = "tls_certificate_file: cert.pem, tls_key_file: key.pem";

}  // namespace

TEST_CASE_FIXTURE(TlsFolder, "everything about TLS is read, with paths relative to the file") {
    const auto config = parse("tls: require, " + pair +
                              ", tls_certificates: [{certificate_file: more.crt, key_file: more.key}], tls_protocols_min: TLSv1.3, auth: scram, "
                              "tls_client_ca_file: ca.crt, tls_client_crl_file: ca.crl, tls_client_certificate: verify_full");
    if (!config) FAIL(config.error().message);
    const ListenConfig& listener = config->listen.at(0);
    CHECK(listener.tls_certificate_file == folder + "/cert.pem");
    REQUIRE(listener.tls_certificates.size() == 1);
    CHECK(listener.tls_certificates[0].certificate_file == folder + "/more.crt");
    CHECK(listener.tls_certificates[0].key_file == folder + "/more.key");
    CHECK(listener.tls_protocols_min == TlsProtocol::tls13);
    CHECK(listener.tls_client_ca_file == folder + "/ca.crt");
    CHECK(listener.tls_client_crl_file == folder + "/ca.crl");
    CHECK(listener.tls_client_certificate == ClientCertificateCheck::verify_full);
    CHECK(parse("tls: require, " + pair + ", auth: cert, tls_client_ca_file: ca.crt")->listen.at(0).auth == ClientAuth::cert);
    CHECK(parse("tls: allow, " + pair)->listen.at(0).tls_protocols_min == TlsProtocol::tls12);
}

TEST_CASE_FIXTURE(TlsFolder, "what would let somebody in without a certificate, or can't work, stops the start") {
    const std::pair<std::string, std::string> rows[] = {
        {"tls: allow, " + pair + ", tls_client_ca_file: ca.crt",
         "listen[0].tls_client_ca_file: needs tls: require, or a client without TLS would need no certificate"},
        {"auth: cert", "listen[0].auth: cert needs tls_client_ca_file"},
        {"tls: require, " + pair + ", auth: cert", "listen[0].auth: cert needs tls_client_ca_file"},
        {"tls: require, " + pair + ", auth: cert, tls_client_ca_file: ca.crt, tls_client_certificate: verify_ca",
         "listen[0].tls_client_certificate: auth: cert always compares the certificate's name with the user's"},
        {"tls: require, " + pair + ", tls_client_crl_file: ca.crl", "listen[0].tls_client_crl_file: needs tls_client_ca_file"},
        {"tls: require, " + pair + ", tls_client_certificate: verify_full", "listen[0].tls_client_certificate: needs tls_client_ca_file"},
        {"tls: require, " + pair + ", tls_client_ca_file: none.crt",
         "listen[0].tls_client_ca_file: the file " + folder + "/none.crt can't be read"},
        {"tls: require, " + pair + ", tls_protocols_min: TLSv1.1", "listen[0].tls_protocols_min: must be one of: TLSv1.2, TLSv1.3"},
        {"tls: require, " + pair + ", tls_certificates: [{certificate_file: more.crt}]", "listen[0].tls_certificates[0].key_file: is missing"},
        {"tls: require, " + pair + ", tls_certificates: [{certificate_file: more.crt, key_file: none.key}]",
         "listen[0].tls_certificates[0].key_file: the file " + folder + "/none.key can't be read"},
        {"tls_certificates: [{certificate_file: more.crt, key_file: more.key}]", "listen[0].tls_certificates: need tls: allow or require"},
    };
    for (const auto& [listener, message] : rows) {
        CAPTURE(listener);
        const auto config = parse(listener);
        REQUIRE_FALSE(config.has_value());
        CHECK(config.error().message == "pgporter.yaml:4: " + message);
    }
}
