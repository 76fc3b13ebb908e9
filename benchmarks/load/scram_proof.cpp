#include "benchmarks/load/scram_proof.hpp"

#include <cstdlib>
#include <string_view>
#include <vector>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace load {
namespace {

Digest hmac(const unsigned char* key, std::size_t size, std::string_view text) {
    Digest out{};
    HMAC(EVP_sha256(), key, static_cast<int>(size), reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data(), nullptr);
    return out;
}

std::string base64(const unsigned char* data, std::size_t size) {
    std::string out(4 * ((size + 2) / 3), '\0');
    EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), data, static_cast<int>(size));
    return out;
}

std::vector<unsigned char> unbase64(const std::string& text) {
    std::vector<unsigned char> out(text.size());
    const int size = EVP_DecodeBlock(out.data(), reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    std::size_t used = size < 0 ? 0 : static_cast<std::size_t>(size);
    for (auto at = text.rbegin(); at != text.rend() && *at == '=' && used > 0; ++at) --used;
    out.resize(used);
    return out;
}

// The value of `name=` in an attribute list.
std::string attribute(const std::string& list, char name) {
    for (std::size_t at = 0; at < list.size();) {
        const std::size_t end = std::min(list.find(',', at), list.size());
        if (list[at] == name && at + 1 < list.size() && list[at + 1] == '=') return list.substr(at + 2, end - at - 2);
        at = end + 1;
    }
    return {};
}

}  // namespace

const Digest& ScramKeys::client_key(const std::string& salt, int rounds) {
    const auto [entry, is_new] = known_.try_emplace(salt + "," + std::to_string(rounds));
    if (is_new) {
        const auto raw = unbase64(salt);
        Digest salted{};
        PKCS5_PBKDF2_HMAC(password_.data(), static_cast<int>(password_.size()), raw.data(), static_cast<int>(raw.size()), rounds, EVP_sha256(),
                          static_cast<int>(salted.size()), salted.data());
        entry->second = hmac(salted.data(), salted.size(), "Client Key");
    }
    return entry->second;
}

ScramProof::ScramProof(int number) {
    std::array<unsigned char, 18> random{};
    RAND_bytes(random.data(), static_cast<int>(random.size()));
    nonce_ = base64(random.data(), random.size()) + std::to_string(number);
}

std::string ScramProof::first() const { return "n,,n=,r=" + nonce_; }

std::string ScramProof::final(const std::string& server_first, ScramKeys& keys) const {
    const std::string salt = attribute(server_first, 's'), both = attribute(server_first, 'r');
    const int rounds = std::atoi(attribute(server_first, 'i').c_str());
    if (salt.empty() || rounds < 1 || both.compare(0, nonce_.size(), nonce_) != 0) return {};
    const Digest& key = keys.client_key(salt, rounds);
    Digest stored{};
    EVP_Digest(key.data(), key.size(), stored.data(), nullptr, EVP_sha256(), nullptr);
    const std::string without_proof = "c=biws,r=" + both;
    Digest proof = hmac(stored.data(), stored.size(), "n=,r=" + nonce_ + "," + server_first + "," + without_proof);
    for (std::size_t at = 0; at < proof.size(); ++at) proof[at] = static_cast<unsigned char>(proof[at] ^ key[at]);
    return without_proof + ",p=" + base64(proof.data(), proof.size());
}

}  // namespace load
