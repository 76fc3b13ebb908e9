// Fence: the triggers in the source database that refuse the tenant's writes, whoever the client is. Installed
// disabled, enabled (ALWAYS) in the transaction that also reads the sequences and marks the stream, never enabled for
// longer than the move's state says. Of a tenant that is rows of shared tables: row_fence.hpp, closed in the same
// transaction. Owned by the move's thread. It must not: touch the journal, or enable anything
// before its state is there.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "admin/mover/move_servers.hpp"
#include "admin/mover/schema_tables.hpp"
#include "admin/mover/sequences.hpp"

namespace pgporter {

// SQLSTATEs that the fence raises (class PP): the tenant lives elsewhere; and, to ourselves, the schema isn't what it
// was.
inline constexpr const char* fence_sqlstate = "PP001";
inline constexpr const char* drift_sqlstate = "PP002";

// Schema and function on the source. The cleanup records must exist before.
[[nodiscard]] Result<void> create_fence_function(ServerSession& source, const MoveServers& servers);
// One transaction per table: trigger created and disabled. Waits for a lock at most lock_timeout at once, with growing
// pauses between.
[[nodiscard]] Result<void> install_fence_triggers(ServerSession& source, const MoveServers& servers,
                                                  const std::vector<SourceTable>& tables);

// All that is done on the source inside the pause, in one round trip on a connection that is prepared before it.
class FenceSession {
  public:
    [[nodiscard]] static Result<FenceSession> prepare(const MoveServers& servers,
                                                      const std::vector<SourceTable>& tables,
                                                      const std::string& signature_query,
                                                      const std::vector<SequenceValue>& sequences);

    struct Outcome {
        std::vector<SequenceValue> sequences;  // exact: nothing of this tenant can be written any more
    };
    // timeout: a lock wasn't to be had, nothing changed. conflict: the schema isn't what `signature` says, nothing
    // changed. unavailable: the connection broke and nobody knows: ask read_fence_state(). `marker` is the content of
    // the in-band message.
    [[nodiscard]] Result<Outcome> enable(const std::string& signature, const std::string& marker,
                                         std::chrono::milliseconds lock_timeout, Deadline deadline);
    [[nodiscard]] ServerSession& session() { return *session_; }

  private:
    FenceSession() = default;
    [[nodiscard]] Result<void> queue(const std::string& signature, const std::string& marker,
                                     std::chrono::milliseconds lock_timeout);

    std::unique_ptr<ServerSession> session_;
    std::string lock_statement_;
    std::vector<std::string> enable_statements_;
};

enum class FenceState { absent, disabled, enabled };
[[nodiscard]] Result<FenceState> read_fence_state(ServerSession& source, const MoveServers& servers);
// Triggers off again: writes go on at the source. Retried until done, interrupted, or the connection broke.
[[nodiscard]] Result<void> disable_fence(ServerSession& source, const MoveServers& servers);
[[nodiscard]] Result<void> drop_fence_triggers(ServerSession& source, const MoveServers& servers);

// The fence of the other way, lifted in two halves: all that may have to wait comes before the flip back, the commit
// after it. `servers` face the way of the fence that is lifted.
class FenceLifter {
  public:
    [[nodiscard]] static Result<FenceLifter> prepare(const MoveServers& servers);
    [[nodiscard]] Result<void> lift(Deadline deadline);  // in a transaction that stays open. timeout: a lock wasn't to be had
    void put_back();
    [[nodiscard]] Result<void> commit(Deadline deadline);

  private:
    FenceLifter() = default;
    std::unique_ptr<ServerSession> session_;
    std::string statements_;
};

// A transaction of the mover that waits for a lock makes the application's later writers wait behind it. Autovacuum
// holds such locks for long, and yields only when a waiter's deadlock check finds it: so that check comes early. Needs
// superuser; without it we only retry more often.
void check_deadlocks_early(ServerSession& session);
// Runs `attempt` (one transaction that gives up after lock_timeout) until it doesn't time out; pauses grow to a second.
[[nodiscard]] Result<void> retry_locks(const Interrupt& interrupt, int attempts_max,
                                       const std::function<Result<void>()>& attempt);
// BEGIN, SET LOCAL lock_timeout, the statement, COMMIT; rolls back on failure.
[[nodiscard]] Result<void> locked_transaction(ServerSession& session, std::chrono::milliseconds lock_timeout,
                                              const std::string& statements);

}  // namespace pgporter
