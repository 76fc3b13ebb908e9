#include "proxy/session/cancel_registry.hpp"

#include <openssl/crypto.h>

#include <cstring>

#include "proxy/wire/auth_crypto.hpp"

namespace pgporter {
namespace {

constexpr unsigned instance_shift = 23;
constexpr std::uint32_t instance_mask = 0xff;

}  // namespace

std::uint32_t CancelRegistry::random_pid() const {
    std::uint32_t number = 0;
    std::memcpy(&number, random_bytes(sizeof number).data(), sizeof number);
    if (instance_id_ == 0) return number & 0x7fffffffU;
    return (instance_id_ & instance_mask) << instance_shift | (number & ((1U << instance_shift) - 1));
}

CancelKey CancelRegistry::add(CancelTarget target, std::uint16_t minor) {
    std::string secret = random_bytes(minor >= 2 ? long_secret_bytes : short_secret_bytes);
    const std::lock_guard lock(mutex_);
    while (true) {
        const std::uint32_t pid = random_pid();
        if (pid == 0 || entries_.contains(pid)) continue;
        entries_[pid] = {secret, target};
        return {pid, std::move(secret)};
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

std::optional<std::uint32_t> CancelRegistry::foreign_instance(std::uint32_t pid) const {
    const std::uint32_t instance = pid >> instance_shift & instance_mask;
    if (instance_id_ == 0 || pid >> 31 != 0 || instance == 0 || instance == instance_id_) return std::nullopt;
    return instance;
}

}  // namespace pgporter
