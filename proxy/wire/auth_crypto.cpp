#include "proxy/wire/auth_crypto.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>

#include "base/assert.hpp"

namespace pgporter {
namespace {

const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

int length_of(std::string_view text) {
    PP_ASSERT(text.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()));
    return static_cast<int>(text.size());
}

std::string md5_hex(std::string_view data) {
    unsigned char digest[16];
    unsigned int length = 0;
    PP_ASSERT(EVP_Digest(data.data(), data.size(), digest, &length, EVP_md5(), nullptr) == 1 &&
              length == sizeof digest);
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    for (const unsigned char byte : digest) {
        hex.push_back(digits[byte >> 4]);
        hex.push_back(digits[byte & 15]);
    }
    return hex;
}

int base64_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

// OpenSSL 3 looks an algorithm up by its name each time it is used by EVP_sha256(), which costs more than a login's hashes do.
class Sha256Digest {
  public:
    Sha256 of(std::string_view first, std::string_view second = {}) {
        Sha256 out{};
        unsigned int length = 0;
        PP_ASSERT(EVP_DigestInit_ex2(context_.get(), kind(), nullptr) == 1 && EVP_DigestUpdate(context_.get(), first.data(), first.size()) == 1 &&
                  EVP_DigestUpdate(context_.get(), second.data(), second.size()) == 1 &&
                  EVP_DigestFinal_ex(context_.get(), out.data(), &length) == 1 && length == out.size());
        return out;
    }
    // The thread's.
    static Sha256Digest& own() {
        thread_local Sha256Digest digest;
        return digest;
    }

  private:
    Sha256Digest() { PP_ASSERT(context_ != nullptr && kind() != nullptr); }
    static const EVP_MD* kind() {
        static EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);  // kept for the process's life
        return fetched;
    }
    struct Free {
        void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
    };
    std::unique_ptr<EVP_MD_CTX, Free> context_{EVP_MD_CTX_new()};
};

}  // namespace

Sha256 sha256(std::string_view data) {
    return Sha256Digest::own().of(data);
}

// RFC 2104.
Sha256 hmac_sha256(std::string_view key, std::string_view data) {
    constexpr std::size_t block_bytes = 64;
    constexpr unsigned char inner_pad = 0x36;
    constexpr unsigned char outer_pad = 0x5c;
    std::array<unsigned char, block_bytes> block{};
    if (key.size() > block_bytes) {
        Sha256 hashed = sha256(key);
        std::copy(hashed.begin(), hashed.end(), block.begin());
        wipe(hashed);
    } else {
        std::copy(key.begin(), key.end(), block.begin());
    }
    const auto padded = [&block] { return std::string_view(reinterpret_cast<const char*>(block.data()), block.size()); };
    for (unsigned char& byte : block) byte ^= inner_pad;
    Sha256 inner = Sha256Digest::own().of(padded(), data);
    for (unsigned char& byte : block) byte ^= inner_pad ^ outer_pad;
    const Sha256 out = Sha256Digest::own().of(padded(), as_text(inner));
    OPENSSL_cleanse(block.data(), block.size());
    wipe(inner);
    return out;
}

Sha256 pbkdf2_sha256(std::string_view password, std::string_view salt, int iterations) {
    PP_ASSERT(iterations >= 1);
    Sha256 out{};
    const char nothing = 0;
    PP_ASSERT(PKCS5_PBKDF2_HMAC(password.empty() ? &nothing : password.data(), length_of(password), bytes_of(salt),
                                length_of(salt), iterations, EVP_sha256(), static_cast<int>(out.size()),
                                out.data()) == 1);
    return out;
}

bool equal_in_constant_time(const Sha256& left, const Sha256& right) {
    return CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

void wipe(Sha256& bytes) {
    OPENSSL_cleanse(bytes.data(), bytes.size());
}

std::string md5_response(std::string_view user, std::string_view password, std::string_view salt) {
    std::string text(password);
    text.append(user);
    std::string inner = md5_hex(text);
    OPENSSL_cleanse(text.data(), text.size());
    inner.append(salt);
    std::string response = "md5" + md5_hex(inner);
    OPENSSL_cleanse(inner.data(), inner.size());  // with it alone one could answer any salt
    return response;
}

// From what the thread has drawn at once: each call of OpenSSL's costs as much as all hashes of a login. What was handed out is wiped.
std::string random_bytes(std::size_t count) {
    thread_local std::array<unsigned char, 512> drawn;
    thread_local std::size_t left = 0;
    std::string out(count, '\0');
    if (count > drawn.size()) {
        PP_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), length_of(out)) == 1);
        return out;
    }
    if (count > left) {
        PP_ASSERT(RAND_bytes(drawn.data(), static_cast<int>(drawn.size())) == 1);
        left = drawn.size();
    }
    unsigned char* const taken = drawn.data() + (left - count);
    std::copy(taken, taken + count, out.begin());
    OPENSSL_cleanse(taken, count);
    left -= count;
    return out;
}

std::string base64_encode(std::string_view bytes) {
    // EVP_EncodeBlock writes a zero byte behind the text, where std::string has one anyway.
    std::string out((bytes.size() + 2) / 3 * 4, '\0');
    const int written =
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes_of(bytes), length_of(bytes));
    PP_ASSERT(static_cast<std::size_t>(written) == out.size());
    return out;
}

std::optional<std::string> base64_decode(std::string_view text) {
    if (text.size() % 4 != 0) return std::nullopt;
    std::size_t padding = 0;
    while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
    std::string out;
    out.reserve(text.size() / 4 * 3);
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : text.substr(0, text.size() - padding)) {
        const int value = base64_value(c);
        if (value < 0) return std::nullopt;
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        count += 6;
        if (count >= 8) {
            count -= 8;
            out.push_back(static_cast<char>(bits >> count));
            bits &= (1U << count) - 1;
        }
    }
    if (bits != 0) return std::nullopt;
    return out;
}

}  // namespace pgporter
