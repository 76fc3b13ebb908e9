#include "catalog/step_outcome.hpp"

#include <openssl/rand.h>

#include <array>
#include <chrono>
#include <thread>

namespace pgporter {
namespace {

Result<bool> ask_once(StoreConnection& store, const StepQuestion& question) {
    auto transaction = StoreTransaction::begin(store, StoreTransaction::Mode::read_write);
    if (!transaction) return transaction.error();
    auto& sql = transaction->sql();
    PP_TRY(sql.exec_params(question.lock_sql, {question.lock_id}));
    // A statement of its own, so that its snapshot is taken after the lock.
    const auto row = sql.exec_params("SELECT 1 FROM pgporter.move_steps WHERE token = $1", {question.token});
    if (!row) return row.error();
    return !row->empty();
}

}  // namespace

StepQuestion StepQuestion::of_move(std::string token, MoveId move) {
    return {std::move(token), "SELECT 1 FROM pgporter.moves WHERE id = $1::bigint FOR UPDATE",
            std::to_string(move.value)};
}

Result<std::string> new_step_token() {
    std::array<unsigned char, 16> bytes{};
    if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) {
        return fail(ErrorKind::internal, "the random number generator failed");
    }
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : bytes) {
        text += digits[byte >> 4U];
        text += digits[byte & 15U];
    }
    return text;
}

Result<bool> step_was_made(StoreConnection& store, const StepQuestion& question) {
    constexpr std::chrono::milliseconds pause{50};
    const auto deadline = std::chrono::steady_clock::now() + store.config().connect_timeout_ms;
    for (;;) {
        const auto made = ask_once(store, question);
        if (made) return made;
        if (std::chrono::steady_clock::now() >= deadline) {
            return fail(ErrorKind::unavailable,
                        "the connection to the catalog was lost while it committed; the outcome is unknown",
                        "it couldn't be read back: " + made.error().message,
                        "look at the move once the catalog can be reached", "08007");
        }
        std::this_thread::sleep_for(pause);  // the catalog is most likely starting again
    }
}

}  // namespace pgporter
