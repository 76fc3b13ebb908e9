// StatementCache: which of our prepared statements exist on one server connection, least recently used first out. Statements are
// known by the number that names them on the server ("PGPORTER_<number>"). Owned by a ServerConnection; same thread; pure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

#include "proxy/wire/statement_description.hpp"

namespace pgporter {

using StatementNumber = std::uint64_t;
// One Parse on one server connection: what it made has one description as long as it exists.
using ParseSerial = std::uint64_t;
// When something was parsed, of all threads: later is larger. 0: nobody knows, long ago.
using ParseMoment = std::uint64_t;

struct PreparedOnServer {
    StatementNumber number = 0;
    ParseSerial serial = 0;
    DescriptionPtr description;             // null: not asked for, or not answered yet
    std::shared_ptr<const void> statement = nullptr;  // kept as long as the server has it, so that its number is found again
    ParseMoment parsed_at = 0;
    std::uint32_t uses = 0;                 // of what stands for an unnamed statement: how often it was bound,
    std::chrono::steady_clock::time_point since{};  // and since when it is there
};

class StatementCache {
  public:
    explicit StatementCache(std::size_t statements_max) : statements_max_(statements_max) {}

    // What the server has of it, now the most recently used; null: it hasn't got it.
    PreparedOnServer* touch(StatementNumber number) {
        const auto at = where_.find(number);
        if (at == where_.end()) return nullptr;
        order_.splice(order_.begin(), order_, at->second);
        return &*at->second;
    }
    // The same, but only what was parsed at `since` or later, and in the world of names that there is now (see renew()).
    PreparedOnServer* touch(StatementNumber number, ParseMoment since) {
        const auto at = where_.find(number);
        return at == where_.end() || at->second->parsed_at < std::max(since, renewed_at_) ? nullptr : touch(number);
    }
    // Names may mean something else from now on: a temporary object may hide what they meant.
    void renew(ParseMoment now) { renewed_at_ = now; }
    // A Parse of it is on its way. Then: evict(), until there is nothing more to be closed.
    void add(StatementNumber number, ParseSerial serial = 0, std::shared_ptr<const void> statement = nullptr, ParseMoment parsed_at = 0) {
        order_.push_front({number, serial, nullptr, std::move(statement), parsed_at});
        where_[number] = order_.begin();
    }
    // A statement that must be closed to stay within the bound.
    std::optional<StatementNumber> evict() {
        if (order_.size() <= statements_max_) return std::nullopt;
        const StatementNumber oldest = order_.back().number;
        remove(oldest);
        return oldest;
    }
    // It was to be closed but wasn't. The bound is passed by it until something is added again.
    void restore(StatementNumber number, ParseSerial serial = 0) {
        if (where_.contains(number)) return;
        order_.push_back({number, serial, nullptr, nullptr, 0});
        where_[number] = std::prev(order_.end());
    }
    // Nothing, where another Parse has made it anew since.
    void describe(StatementNumber number, ParseSerial serial, DescriptionPtr description) {
        const auto at = where_.find(number);
        if (at == where_.end() || at->second->serial != serial) return;
        at->second->description = std::move(description);
        has_described_ = true;
    }
    void remove(StatementNumber number) {
        const auto at = where_.find(number);
        if (at == where_.end()) return;
        order_.erase(at->second);
        where_.erase(at);
    }
    void clear() {
        order_.clear();
        where_.clear();
        has_described_ = false;
    }
    [[nodiscard]] bool contains(StatementNumber number) const { return where_.contains(number); }
    [[nodiscard]] std::size_t size() const { return order_.size(); }
    // Some statement was described: to prepare it again would cost a round trip for comparing.
    [[nodiscard]] bool has_described() const { return has_described_ && !order_.empty(); }

  private:
    std::size_t statements_max_;
    std::list<PreparedOnServer> order_;
    std::unordered_map<StatementNumber, std::list<PreparedOnServer>::iterator> where_;
    bool has_described_ = false;
    ParseMoment renewed_at_ = 0;
};

}  // namespace pgporter
