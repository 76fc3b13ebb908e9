// IdempotencyCache: answers of POST requests by their Idempotency-Key, so that a client that lost the answer can ask again without
// doing the thing twice. In memory, for 24 hours, bounded in keys and bytes (the oldest go first): a restart forgets them.
// Server errors aren't remembered: trying again may help. Any thread (a mutex; nothing is done under it but look-ups).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "admin/api/api_message.hpp"

namespace pgporter {

class IdempotencyCache {
  public:
    using Clock = std::function<std::chrono::steady_clock::time_point()>;
    struct Limits {
        std::size_t keys_max = 10'000;
        std::size_t bytes_max = 64 * 1024 * 1024;
        std::chrono::seconds age_max{24 * 3600};
    };
    static constexpr std::size_t key_bytes_max = 255;

    enum class Outcome {
        proceed,    // new: do it, then call remember() or forget()
        replay,     // `answer` was given before
        mismatch,   // the key was used for another request
        in_flight,  // the same request is being worked on
        full        // every remembered key is in flight
    };
    struct Begin {
        Outcome outcome = Outcome::proceed;
        ApiResponse answer;
    };

    IdempotencyCache() : IdempotencyCache(Limits{}, [] { return std::chrono::steady_clock::now(); }) {}
    IdempotencyCache(Limits limits, Clock clock) : limits_(limits), clock_(std::move(clock)) {}

    [[nodiscard]] Begin begin(const ApiRequest& request);
    void remember(const std::string& key, const ApiResponse& answer);
    void forget(const std::string& key);
    [[nodiscard]] std::size_t size() const;

  private:
    struct Entry {
        std::string key;
        std::string fingerprint;
        bool done = false;
        ApiResponse answer;
        std::size_t bytes = 0;
        std::chrono::steady_clock::time_point since;
    };
    using Entries = std::list<Entry>;  // oldest first

    static std::string fingerprint_of(const ApiRequest& request);
    static std::size_t bytes_of(const Entry& entry);
    void erase(Entries::iterator it);
    void drop_expired();
    bool make_room();

    const Limits limits_;
    const Clock clock_;
    mutable std::mutex mutex_;
    Entries entries_;
    std::unordered_map<std::string, Entries::iterator> by_key_;
    std::size_t bytes_ = 0;
};

}  // namespace pgporter
