// VerifierCache: SCRAM verifiers learned by auth query, for a short time. Thread-safe; bounded; a failure is never kept.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace pgporter {

class VerifierCache {
  public:
    using Clock = std::chrono::steady_clock;

    [[nodiscard]] std::optional<std::string> find(const std::string& user) const {
        const std::lock_guard lock(mutex_);
        const auto at = entries_.find(user);
        if (at == entries_.end() || Clock::now() > at->second.until) return std::nullopt;
        return at->second.verifier;
    }
    void put(const std::string& user, std::string verifier, std::chrono::milliseconds keep) {
        const std::lock_guard lock(mutex_);
        if (entries_.size() >= entries_max) entries_.clear();
        entries_[user] = {std::move(verifier), Clock::now() + keep};
    }
    void forget(const std::string& user) {  // after a failed login: the password may have changed
        const std::lock_guard lock(mutex_);
        entries_.erase(user);
    }

  private:
    static constexpr std::size_t entries_max = 10'000;
    struct Entry {
        std::string verifier;
        Clock::time_point until;
    };
    mutable std::mutex mutex_;
    std::map<std::string, Entry> entries_;
};

}  // namespace pgporter
