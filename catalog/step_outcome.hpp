// Was a step committed? A connection that is lost during COMMIT leaves that open. Each step carries a random token, so
// the answer is read from the catalog and never guessed. Control-plane threads only; blocks for a bounded time.
#pragma once

#include <string>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "catalog/store_connection.hpp"

namespace pgporter {

struct StepQuestion {
    std::string token;
    // A row that the step's transaction had locked. Locking it too waits until that transaction has ended, one way or
    // the other.
    std::string lock_sql;
    std::string lock_id;

    [[nodiscard]] static StepQuestion of_move(std::string token, MoveId move);
};

[[nodiscard]] Result<std::string> new_step_token();  // 128 random bits
// Tries for catalog.connect_timeout_ms. unavailable: it can't be read; the outcome stays unknown.
[[nodiscard]] Result<bool> step_was_made(StoreConnection& store, const StepQuestion& question);

}  // namespace pgporter
