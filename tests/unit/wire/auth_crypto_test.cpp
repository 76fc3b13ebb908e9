#include "proxy/wire/auth_crypto.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

using namespace pgporter;

namespace {

std::string hex(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (const char byte : bytes) {
        out.push_back(digits[static_cast<unsigned char>(byte) >> 4]);
        out.push_back(digits[static_cast<unsigned char>(byte) & 15]);
    }
    return out;
}

}  // namespace

TEST_CASE("known digests") {
    CHECK(hex(as_text(sha256("abc"))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    // RFC 4231, test case 2
    CHECK(hex(as_text(hmac_sha256("Jefe", "what do ya want for nothing?"))) ==
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    CHECK(hex(as_text(hmac_sha256("", ""))) == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    // RFC 4231, test case 6: a key that is longer than a block.
    CHECK(hex(as_text(hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First"))) ==
          "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    // RFC 7914, section 11, first 32 bytes
    CHECK(hex(as_text(pbkdf2_sha256("passwd", "salt", 1))) ==
          "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
}

TEST_CASE("md5 as PostgreSQL's old method wants it") {
    // md5(md5('secret' || 'joe') || salt)
    CHECK(md5_response("joe", "secret", std::string_view("\x01\x02\x03\x04", 4)) ==
          "md5850be429f1fe77df3f603ac424abb440");
}

TEST_CASE("comparing keys") {
    const Sha256 a = sha256("a");
    Sha256 b = a;
    CHECK(equal_in_constant_time(a, b));
    b.back() = static_cast<unsigned char>(b.back() ^ 1);
    CHECK_FALSE(equal_in_constant_time(a, b));
    wipe(b);
    CHECK(b == Sha256{});
}

TEST_CASE("random bytes differ") {
    std::set<std::string> seen;
    for (int i = 0; i < 100; ++i) seen.insert(random_bytes(16));
    CHECK(seen.size() == 100);
    CHECK(random_bytes(0).empty());
}

TEST_CASE("base64 there and back, for every length") {
    std::string bytes;
    for (int i = 0; i < 70; ++i) {
        const std::string text = base64_encode(bytes);
        CHECK(text.size() == (bytes.size() + 2) / 3 * 4);
        CHECK(base64_decode(text) == bytes);
        bytes.push_back(static_cast<char>(i * 37 + 200));
    }
    CHECK(base64_encode("foobar") == "Zm9vYmFy");
    CHECK(base64_encode("fooba") == "Zm9vYmE=");
    CHECK(base64_encode("foob") == "Zm9vYg==");
}

TEST_CASE("base64 that isn't") {
    for (const std::string_view text : {"Z", "Zm", "Zm9", "Zm9vY", "Zm9v\n", "Zm9v ", "Zm=v",
                                        "Z===", "====", "Zm9=v===", "Zh==", "Zm9vYmF=", "Zm9v-_==", "=Zm9"}) {
        INFO(text);
        CHECK_FALSE(base64_decode(text).has_value());
    }
}
