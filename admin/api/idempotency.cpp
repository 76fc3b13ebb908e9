#include "admin/api/idempotency.hpp"

#include <utility>

namespace pgporter {

// Two independent 64-bit hashes and the length: a client may only harm itself by colliding with its own request.
std::string IdempotencyCache::fingerprint_of(const ApiRequest& request) {
    std::uint64_t fnv = 14695981039346656037ULL;
    for (const char c : request.body) fnv = (fnv ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    return request.method + ' ' + request.target + ' ' + request.content_type + ' ' + std::to_string(request.body.size()) + ' ' +
           std::to_string(fnv) + ' ' + std::to_string(std::hash<std::string>{}(request.body));
}

std::size_t IdempotencyCache::bytes_of(const Entry& entry) {
    std::size_t bytes = sizeof(Entry) + 2 * entry.key.size() + entry.fingerprint.size() + entry.answer.body.size();
    for (const auto& [name, value] : entry.answer.headers) bytes += name.size() + value.size();
    return bytes;
}

void IdempotencyCache::erase(Entries::iterator it) {
    bytes_ -= it->bytes;
    by_key_.erase(it->key);
    entries_.erase(it);
}

void IdempotencyCache::drop_expired() {
    const auto now = clock_();
    for (auto it = entries_.begin(); it != entries_.end() && now - it->since >= limits_.age_max;) {
        const auto next = std::next(it);
        if (it->done) erase(it);  // one in flight must stay: its request isn't answered yet
        it = next;
    }
}

// Keeps keys and bytes within their bounds, oldest first. False: only requests in flight are left.
bool IdempotencyCache::make_room() {
    for (auto it = entries_.begin(); it != entries_.end() && (entries_.size() > limits_.keys_max || bytes_ > limits_.bytes_max);) {
        const auto next = std::next(it);
        if (it->done) erase(it);
        it = next;
    }
    return entries_.size() <= limits_.keys_max;
}

IdempotencyCache::Begin IdempotencyCache::begin(const ApiRequest& request) {
    const std::lock_guard lock(mutex_);
    drop_expired();
    auto fingerprint = fingerprint_of(request);
    if (const auto found = by_key_.find(request.idempotency_key); found != by_key_.end()) {
        const Entry& entry = *found->second;
        if (entry.fingerprint != fingerprint) return {Outcome::mismatch, {}};
        if (!entry.done) return {Outcome::in_flight, {}};
        return {Outcome::replay, entry.answer};
    }
    Entry entry;
    entry.key = request.idempotency_key;
    entry.fingerprint = std::move(fingerprint);
    entry.since = clock_();
    entry.bytes = bytes_of(entry);
    bytes_ += entry.bytes;
    entries_.push_back(std::move(entry));
    const auto it = std::prev(entries_.end());
    by_key_[it->key] = it;
    if (make_room()) return {Outcome::proceed, {}};
    erase(it);
    return {Outcome::full, {}};
}

void IdempotencyCache::remember(const std::string& key, const ApiResponse& answer) {
    const std::lock_guard lock(mutex_);
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return;
    Entry& entry = *found->second;
    entry.done = true;
    entry.answer = answer;
    bytes_ -= entry.bytes;
    entry.bytes = bytes_of(entry);
    bytes_ += entry.bytes;
    (void)make_room();  // an answer larger than all bytes is forgotten at once
}

void IdempotencyCache::forget(const std::string& key) {
    const std::lock_guard lock(mutex_);
    if (const auto found = by_key_.find(key); found != by_key_.end()) erase(found->second);
}

std::size_t IdempotencyCache::size() const {
    const std::lock_guard lock(mutex_);
    return entries_.size();
}

}  // namespace pgporter
