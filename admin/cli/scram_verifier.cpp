#include "admin/cli/scram_verifier.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <vector>

namespace pgporter {
namespace {

using Digest = std::array<unsigned char, 32>;

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

bool hmac_sha256(const Digest& key, std::string_view text, Digest& out) {
    unsigned int length = 0;
    return HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(text), text.size(), out.data(), &length) != nullptr &&
           length == out.size();
}

bool sha256(const Digest& in, Digest& out) {
    unsigned int length = 0;
    return EVP_Digest(in.data(), in.size(), out.data(), &length, EVP_sha256(), nullptr) == 1 && length == out.size();
}

std::string base64(const unsigned char* data, std::size_t size) {
    std::vector<unsigned char> out(4 * ((size + 2) / 3) + 1);
    const int length = EVP_EncodeBlock(out.data(), data, static_cast<int>(size));
    return {reinterpret_cast<const char*>(out.data()), static_cast<std::size_t>(length)};
}

Error crypto_failed() { return fail(ErrorKind::internal, "the cryptographic library refused"); }

}  // namespace

Result<std::string> random_salt() {
    std::array<unsigned char, 16> salt{};
    if (RAND_bytes(salt.data(), static_cast<int>(salt.size())) != 1) return crypto_failed();
    return std::string(reinterpret_cast<const char*>(salt.data()), salt.size());
}

Result<std::string> make_scram_verifier(const Secret& password, std::string_view salt, std::uint32_t iterations) {
    const auto text = password.reveal();
    if (text.empty()) return fail(ErrorKind::invalid, "the password is empty");
    for (const char c : text) {
        if (c < 0x20 || c > 0x7e) {
            return fail(ErrorKind::invalid, "the password has characters other than printable ASCII", {},
                        "set it in PostgreSQL (\\password) and copy rolpassword from pg_authid, or use auth_query");
        }
    }
    Digest salted{};
    Digest client_key{};
    Digest stored_key{};
    Digest server_key{};
    const bool made = PKCS5_PBKDF2_HMAC(text.data(), static_cast<int>(text.size()), bytes_of(salt), static_cast<int>(salt.size()),
                                        static_cast<int>(iterations), EVP_sha256(), static_cast<int>(salted.size()), salted.data()) == 1 &&
                      hmac_sha256(salted, "Client Key", client_key) && sha256(client_key, stored_key) &&
                      hmac_sha256(salted, "Server Key", server_key);
    OPENSSL_cleanse(salted.data(), salted.size());
    OPENSSL_cleanse(client_key.data(), client_key.size());
    if (!made) return crypto_failed();
    return "SCRAM-SHA-256$" + std::to_string(iterations) + ":" + base64(bytes_of(salt), salt.size()) + "$" +
           base64(stored_key.data(), stored_key.size()) + ":" + base64(server_key.data(), server_key.size());
}

}  // namespace pgporter
