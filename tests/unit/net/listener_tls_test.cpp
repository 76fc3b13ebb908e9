#include "proxy/net/listener_tls.hpp"

#include "proxy/net/certificate.hpp"
#include "tests/unit/net/certificate_of_test.hpp"

using namespace pgporter;
using test::CertificateFolder;

namespace {

std::string shown_for(const CertificateSetPtr& set, std::string_view server_name) {
    return common_name_of(set->find(server_name)->certificate()).value();
}

}  // namespace

TEST_CASE_FIXTURE(CertificateFolder, "the certificate is chosen by the server name") {
    ListenerTlsOptions options;
    options.certificates = {make("standard", "DNS:proxy.example"), make("wild", "DNS:*.tenants.example,DNS:tenants.example"),
                            make("exact", "DNS:acme.tenants.example"), make("second", "DNS:acme.tenants.example")};
    const auto tls = ListenerTls::load(options);
    REQUIRE(tls.has_value());
    const CertificateSetPtr set = (*tls)->current();
    const std::pair<const char*, const char*> rows[] = {
        {"proxy.example", "standard"},          {"", "standard"},
        {"elsewhere.example", "standard"},      {"globex.tenants.example", "wild"},
        {"GLOBEX.Tenants.Example", "wild"},     {"tenants.example", "wild"},
        {"acme.tenants.example", "exact"},  // before the wildcard, and the first of two
        {"a.globex.tenants.example", "standard"},  // a wildcard is one label
        {".tenants.example", "standard"},       {"*.tenants.example", "wild"},
    };
    for (const auto& [name, expected] : rows) {
        CAPTURE(name);
        CHECK(shown_for(set, name) == expected);
    }
}

TEST_CASE_FIXTURE(CertificateFolder, "files that changed are read anew, broken ones leave the old in use") {
    ListenerTlsOptions options;
    options.certificates = {make("a", "DNS:a.example"), make("b", "DNS:b.example")};
    auto loaded = ListenerTls::load(options);
    REQUIRE(loaded.has_value());
    ListenerTls& tls = **loaded;
    const CertificateSetPtr before = tls.current();
    CHECK(tls.reload(false).value() == false);
    CHECK(tls.current() == before);
    CHECK(tls.reload(true).value() == true);  // asked for, though nothing changed
    CHECK(tls.current() != before);

    const CertificateSetPtr old = tls.current();
    const std::string good = read_text(options.certificates[1].certificate_file);
    make("b", "DNS:new.example");
    CHECK(tls.reload(false).value() == true);
    CHECK(shown_for(tls.current(), "new.example") == "b");
    CHECK(shown_for(tls.current(), "b.example") == "a");
    CHECK(shown_for(old, "b.example") == "b");  // a handshake that has begun keeps what it has

    const CertificateSetPtr working = tls.current();
    write_text(options.certificates[1].certificate_file, good);  // of another key than the one that is there now
    CHECK_FALSE(tls.reload(false).has_value());
    CHECK(tls.current() == working);
    CHECK(tls.reload(false).value() == false);  // said once
    write_text(options.certificates[1].certificate_file, "-----BEGIN CERTIFICATE-----\nnonsense\n");
    CHECK_FALSE(tls.reload(false).has_value());
    std::filesystem::remove(options.certificates[1].certificate_file);
    CHECK_FALSE(tls.reload(false).has_value());
    CHECK(tls.current() == working);
    make("b", "DNS:again.example");
    CHECK(tls.reload(false).value() == true);
    CHECK(shown_for(tls.current(), "again.example") == "b");
}

TEST_CASE_FIXTURE(CertificateFolder, "what isn't a pair of certificate and key") {
    const CertificateFiles ec = make("ec", "");
    const CertificateFiles another = make("another", "");
    const CertificateFiles rsa = make("rsa", "", "RSA");
    const auto loads = [](const CertificateFiles& files) { return ListenerTls::load({{files}, {}, false}).has_value(); };
    CHECK(loads(ec));
    CHECK(loads(rsa));
    CHECK_FALSE(loads({ec.certificate_file, another.key_file}));
    CHECK_FALSE(loads({ec.certificate_file, rsa.key_file}));  // OpenSSL keeps one of each kind and says nothing
    CHECK_FALSE(loads({ec.key_file, ec.certificate_file}));
    CHECK_FALSE(loads({ec.certificate_file, folder + "/none"}));
    const auto key = test::make_key();
    FILE* out = std::fopen((folder + "/locked.key").c_str(), "w");
    PEM_write_PrivateKey(out, key.get(), EVP_aes_256_cbc(), reinterpret_cast<const unsigned char*>("secret"), 6, nullptr, nullptr);
    std::fclose(out);
    CHECK_FALSE(loads({ec.certificate_file, folder + "/locked.key"}));  // and nobody is asked for a passphrase
}

TEST_CASE_FIXTURE(CertificateFolder, "clients' authority and revocations") {
    const CertificateFiles pair = make("pair", "");
    CHECK(ListenerTls::load({{pair}, {pair.certificate_file, ""}, true}).has_value());
    CHECK_FALSE(ListenerTls::load({{pair}, {folder + "/none", ""}, false}).has_value());
    CHECK_FALSE(ListenerTls::load({{pair}, {pair.key_file, ""}, false}).has_value());
    CHECK_FALSE(ListenerTls::load({{pair}, {pair.certificate_file, folder + "/none"}, false}).has_value());
}

TEST_CASE_FIXTURE(CertificateFolder, "the first certificate to expire") {
    ListenerTlsOptions options;
    options.certificates = {make("long", "", "EC", 9), make("short", "", "EC", 1), make("middle", "", "EC", 5)};
    const auto set = CertificateSet::load(options);
    REQUIRE(set.has_value());
    CHECK((*set)->expires_at() == expiry_of((*set)->find("short")->certificate()));
    CHECK((*set)->expires_at() < expiry_of((*set)->first()->certificate()));
}
