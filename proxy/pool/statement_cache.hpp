// StatementCache: which of our prepared statements exist on one server connection, least recently used first out. Statements are
// known by the number that names them on the server ("PGPORTER_<number>"). Owned by a ServerConnection; same thread; pure.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>

namespace pgporter {

using StatementNumber = std::uint64_t;

class StatementCache {
  public:
    explicit StatementCache(std::size_t statements_max) : statements_max_(statements_max) {}

    // True, and now the most recently used, when the server has it.
    bool touch(StatementNumber number) {
        const auto at = where_.find(number);
        if (at == where_.end()) return false;
        order_.splice(order_.begin(), order_, at->second);
        return true;
    }
    // A Parse of it is on its way. Returns the statement that must be closed to stay within the bound.
    std::optional<StatementNumber> add(StatementNumber number) {
        order_.push_front(number);
        where_[number] = order_.begin();
        if (order_.size() <= statements_max_) return std::nullopt;
        const StatementNumber oldest = order_.back();
        remove(oldest);
        return oldest;
    }
    // It was to be closed but wasn't. The bound may be passed by it until the next add() brings the size down again.
    void restore(StatementNumber number) {
        if (where_.contains(number)) return;
        order_.push_back(number);
        where_[number] = std::prev(order_.end());
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
    }
    [[nodiscard]] bool contains(StatementNumber number) const { return where_.contains(number); }
    [[nodiscard]] std::size_t size() const { return order_.size(); }

  private:
    std::size_t statements_max_;
    std::list<StatementNumber> order_;
    std::unordered_map<StatementNumber, std::list<StatementNumber>::iterator> where_;
};

}  // namespace pgporter
