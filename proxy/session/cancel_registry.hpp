// CancelRegistry: which session a cancel key belongs to. Keys are ours and random; the server's own never leave us. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/ids.hpp"

namespace pgporter {

struct CancelTarget {
    std::size_t worker = 0;
    SessionId session;
};
struct CancelKey {
    std::uint32_t pid = 0;  // never 0, sign bit clear: some clients choke on negative ones
    std::string secret;     // 4 bytes
};

class CancelRegistry {
  public:
    [[nodiscard]] CancelKey add(CancelTarget target);
    void remove(const CancelKey& key);
    // Compares the secret in constant time; nothing tells a wrong secret from an unknown pid.
    [[nodiscard]] std::optional<CancelTarget> find(std::uint32_t pid, const std::string& secret) const;

  private:
    struct Entry {
        std::string secret;
        CancelTarget target;
    };
    mutable std::mutex mutex_;
    std::unordered_map<std::uint32_t, Entry> entries_;
};

}  // namespace pgporter
