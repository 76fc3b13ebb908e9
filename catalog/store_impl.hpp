// The inside of CatalogStore, for its own source files (store*.cpp) alone.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "catalog/store.hpp"
#include "catalog/store_connection.hpp"

namespace pgporter {

class CatalogStore::Impl {
  public:
    explicit Impl(const CatalogConfig& config) : connection(config), instance(random_instance()) {}
    StoreConnection connection;
    const std::uint32_t instance;

    // The token of the last step that this process made, or may have made, of a move.
    void remember_step(MoveId move, const std::string& token) {
        const std::lock_guard lock(steps_mutex_);
        last_steps_[move] = token;
    }
    [[nodiscard]] std::string last_step(MoveId move) {
        const std::lock_guard lock(steps_mutex_);
        const auto found = last_steps_.find(move);
        return found == last_steps_.end() ? std::string() : found->second;
    }
    void forget_steps(MoveId move) {
        const std::lock_guard lock(steps_mutex_);
        last_steps_.erase(move);
    }

  private:
    static std::uint32_t random_instance();
    std::mutex steps_mutex_;
    std::map<MoveId, std::string> last_steps_;
};

// One step of a move, in the transaction that `sql` is in. conflict: its state isn't `from`.
struct MoveStep {
    MoveId move;
    MoveState from = MoveState::planned;
    MoveState to = MoveState::planned;
    std::string_view note;
    std::string token;
};
[[nodiscard]] Result<void> write_step(PgConnection& sql, const MoveStep& step);

// limit: so many moves wait or are at work already.
[[nodiscard]] Result<void> check_room_in_queue(PgConnection& sql, std::uint32_t unfinished_max);
// So that the flip's statements have been read when it comes; `back`: a rollback's.
[[nodiscard]] Result<void> prepare_flip(PgConnection& sql, bool back);

}  // namespace pgporter
