// CancelRegistry: which session a cancel key belongs to. Keys are ours and random; the server's own never leave us. Thread-safe.
//
// With other instances around (instance_id), the process id in the key says whose it is, so that any instance can pass a request on:
//   bit 31  0 (some clients choke on a negative one)   bits 30..23  instance_id   bits 22..0  random
// and without them bits 30..0 are random. The secret is random: 4 bytes for protocol 3.0, which has no more, 32 for 3.2; PostgreSQL allows 256, of
// which poolers before us may want some.
#pragma once

#include <cstdint>
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
    std::uint32_t pid = 0;  // never 0
    std::string secret;
};

class CancelRegistry {
  public:
    static constexpr std::size_t short_secret_bytes = 4;
    static constexpr std::size_t long_secret_bytes = 32;

    explicit CancelRegistry(std::uint32_t instance_id = 0) : instance_id_(instance_id) {}

    // `minor`: the protocol version that was agreed on with the client.
    [[nodiscard]] CancelKey add(CancelTarget target, std::uint16_t minor);
    void remove(const CancelKey& key);
    // Compares the secret in constant time; nothing tells a wrong secret from an unknown pid.
    [[nodiscard]] std::optional<CancelTarget> find(std::uint32_t pid, const std::string& secret) const;
    // The instance that made a key with this process id; nullopt: this one, or nobody knows.
    [[nodiscard]] std::optional<std::uint32_t> foreign_instance(std::uint32_t pid) const;

  private:
    [[nodiscard]] std::uint32_t random_pid() const;

    struct Entry {
        std::string secret;
        CancelTarget target;
    };
    const std::uint32_t instance_id_;
    mutable std::mutex mutex_;
    std::unordered_map<std::uint32_t, Entry> entries_;
};

}  // namespace pgporter
