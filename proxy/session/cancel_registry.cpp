#include "proxy/session/cancel_registry.hpp"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <cstring>

#include "base/assert.hpp"

namespace pgporter {
namespace {

std::uint32_t random_u32() {
    std::uint32_t number = 0;
    PP_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&number), sizeof number) == 1);
    return number;
}

}  // namespace

CancelKey CancelRegistry::add(CancelTarget target) {
    const std::uint32_t secret_number = random_u32();
    std::string secret(sizeof secret_number, '\0');
    std::memcpy(secret.data(), &secret_number, sizeof secret_number);
    const std::lock_guard lock(mutex_);
    while (true) {
        const std::uint32_t pid = random_u32() & 0x7fffffffU;
        if (pid == 0 || entries_.contains(pid)) continue;
        entries_[pid] = {secret, target};
        return {pid, secret};
    }
}

void CancelRegistry::remove(const CancelKey& key) {
    const std::lock_guard lock(mutex_);
    entries_.erase(key.pid);
}

std::optional<CancelTarget> CancelRegistry::find(std::uint32_t pid, const std::string& secret) const {
    const std::lock_guard lock(mutex_);
    const auto at = entries_.find(pid);
    if (at == entries_.end() || secret.size() != at->second.secret.size()) return std::nullopt;
    if (CRYPTO_memcmp(secret.data(), at->second.secret.data(), secret.size()) != 0) return std::nullopt;
    return at->second.target;
}

}  // namespace pgporter
