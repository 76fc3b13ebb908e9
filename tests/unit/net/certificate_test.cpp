#include "proxy/net/certificate.hpp"

#include <ctime>

#include "tests/unit/net/certificate_of_test.hpp"

using namespace pgporter;
using test::make_certificate;
using test::make_key;

namespace {

std::string hash_of(X509* certificate, const EVP_MD* digest) {
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    REQUIRE(X509_digest(certificate, digest, hash, &size) == 1);
    return {reinterpret_cast<const char*>(hash), size};
}

}  // namespace

TEST_CASE("tls-server-end-point: the hash that the signature algorithm has, but no weak one") {
    for (const char* kind : {"EC", "RSA"}) {
        CAPTURE(kind);
        const auto key = make_key(kind);
        const std::pair<const EVP_MD*, const EVP_MD*> rows[] = {{EVP_sha256(), EVP_sha256()},
                                                                {EVP_sha384(), EVP_sha384()},
                                                                {EVP_sha512(), EVP_sha512()},
                                                                {EVP_sha224(), EVP_sha224()},
                                                                {EVP_sha1(), EVP_sha256()}};
        for (const auto& [signed_with, expected] : rows) {
            const auto certificate = make_certificate(key.get(), {"x"}, "", signed_with);
            CHECK(server_end_point_of(certificate.get()) == hash_of(certificate.get(), expected));
        }
    }
    const auto rsa = make_key("RSA");
    const auto md5 = make_certificate(rsa.get(), {"x"}, "", EVP_md5());
    CHECK(server_end_point_of(md5.get()) == hash_of(md5.get(), EVP_sha256()));
}

TEST_CASE("tls-server-end-point isn't defined for a signature without a hash") {
    const auto key = make_key("ED25519");
    CHECK(server_end_point_of(make_certificate(key.get(), {"x"}, "", nullptr).get()).empty());
}

TEST_CASE("host names") {
    const auto key = make_key();
    const auto names = [&](const std::vector<std::string>& common, const std::string& alternatives) {
        return host_names_of(make_certificate(key.get(), common, alternatives, EVP_sha256()).get());
    };
    using Names = std::vector<std::string>;
    CHECK(names({"cn.example"}, "DNS:A.example,DNS:*.b.example,IP:127.0.0.1") == Names{"a.example", "*.b.example"});
    CHECK(names({"CN.example"}, "") == Names{"cn.example"});
    CHECK(names({"cn.example"}, "IP:127.0.0.1") == Names{"cn.example"});
    CHECK(names({}, "").empty());
}

TEST_CASE("the common name is the user's, or it is none") {
    const auto key = make_key();
    const auto name = [&](const std::vector<std::string>& common) {
        return common_name_of(make_certificate(key.get(), common, "", EVP_sha256()).get());
    };
    CHECK(name({"app"}) == "app");
    CHECK(name({"\xc3\xa4pp"}) == "\xc3\xa4pp");
    CHECK(name({"App"}) == "App");
    CHECK_FALSE(name({}).has_value());
    CHECK_FALSE(name({"app", "other"}).has_value());
    CHECK_FALSE(name({std::string("app\0.evil", 9)}).has_value());
}

TEST_CASE("expiry") {
    const auto key = make_key();
    const auto in_two_days = expiry_of(make_certificate(key.get(), {"x"}, "", EVP_sha256()).get());
    const auto difference = in_two_days - (static_cast<std::int64_t>(std::time(nullptr)) + 2 * 86'400);
    CHECK(difference >= -5);
    CHECK(difference <= 5);
}
