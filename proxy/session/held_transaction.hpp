// HeldTransaction: what a session has said about itself and its transaction while it has no server connection. BEGIN, savepoints and the
// settings that name a tenant are answered here and held back; the first statement that needs a server decides the tenant, and then all
// that was held back is sent first. Owned by a session; pure: no I/O, no server.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "router/scoped_settings.hpp"
#include "router/session_statement.hpp"
#include "router/tenant_in_sql.hpp"

namespace pgporter {

class HeldTransaction {
  public:
    // Whoever has said more than this before a statement needed a server gets one: what is held back stays small.
    static constexpr std::size_t held_back_bytes_max = 65'536;

    enum class State {
        none,   // no transaction, or one that PostgreSQL makes for each statement or batch by itself
        open,   // BEGIN was answered
        failed  // a statement of it was refused: only its end is accepted
    };
    // What a decision is made with.
    struct World {
        const IdentifyConfig& config;
        const Snapshot& snapshot;
        Asker asker;
    };
    struct Answer {
        enum class Kind { answered, needs_server, refused } kind = Kind::needs_server;
        std::string tag;               // answered: of CommandComplete
        std::vector<std::string> row;  // answered: set_config's result; empty: there is none
        Error error;                   // refused
        std::optional<Error> warning;  // answered: told before the tag
    };

    // One statement. `named`: what the session has set; changed where the answer is `answered`.
    Answer perform(const SessionStatement& statement, const std::vector<ResolvedChange>& changes, const World& world, ScopedSettings& named);
    // Would perform() answer it, or refuse it, rather than need a server?
    [[nodiscard]] bool performs(const SessionStatement& statement, const std::vector<ResolvedChange>& changes, const IdentifyConfig& config,
                                const ScopedSettings& named) const;

    // A statement failed without a server: an open transaction fails, a transaction of its own is undone.
    void fail(ScopedSettings& named);
    // The end of a simple Query or of an extended batch (Sync): what was set outside of a transaction block stays.
    void end_implicit(ScopedSettings& named);

    // What a server connection must do before anything else of the transaction; empty: nothing was held back.
    // What went back to its default becomes what the session began with (`beginning`: a setting's value, null for the server's default).
    using Beginning = std::function<const std::string*(std::string_view setting)>;
    [[nodiscard]] std::string held_back(const Beginning& beginning = {}) const;
    // It has done that: from now on the server knows.
    void hand_over();

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] char status() const { return state_ == State::none ? 'I' : state_ == State::open ? 'T' : 'E'; }

  private:
    Answer end_transaction(const SessionStatement& statement, ScopedSettings& named);
    Answer change_settings(const SessionStatement& statement, const std::vector<ResolvedChange>& changes, const World& world,
                           ScopedSettings& named);
    Answer roll_back_to(const SessionStatement& statement, ScopedSettings& named);
    [[nodiscard]] bool performs_change(const SessionStatement& statement, const std::vector<ResolvedChange>& changes,
                                       const IdentifyConfig& config) const;
    void hold_back(std::string_view sql);

    State state_ = State::none;
    std::string begin_;     // the text of BEGIN, and of SET TRANSACTION
    std::string settings_;  // and of what followed it, or of what was set in this batch
    std::vector<std::size_t> savepoints_;  // how long settings_ was behind each open savepoint: ROLLBACK TO cuts it there
    bool has_queried_ = false;             // a SELECT is held back: SET TRANSACTION comes too late
};

}  // namespace pgporter
