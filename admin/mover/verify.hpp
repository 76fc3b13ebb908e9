// Verifier: proves that the target holds what the source holds, while both go on. A *barrier* makes it possible: a
// snapshot of the source at a known point of its log, and a snapshot of the target taken when exactly the transactions
// before that point were applied. First all rows are compared at a barrier, then, barrier by barrier, only the rows
// changed since; the last few inside the pause. Owned by the move's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "admin/mover/fingerprint.hpp"
#include "admin/mover/follow.hpp"
#include "admin/mover/move_servers.hpp"

namespace pgporter {

class Verifier {
  public:
    Verifier(const MoveServers& servers, const std::vector<SourceTable>& tables, Follower& follower,
             std::uint32_t jobs);

    // conflict: they differ, with tables and counts. timeout: a long transaction on the source kept the barrier from
    // being made.
    [[nodiscard]] Result<void> compare_all(ServerSession& source);
    [[nodiscard]] Result<void> compare_changed(ServerSession& source);
    // How many rows are still to be compared: those changed since the last barrier.
    [[nodiscard]] std::uint64_t remaining_rows() const;
    [[nodiscard]] std::uint64_t rows_verified() const { return rows_verified_; }

    // The pause: connections made and used before it, queries sent while other things are waited for.
    [[nodiscard]] Result<void> prepare_pause();
    [[nodiscard]] Result<void> rehearse_pause();
    // Rows that came in from another tenant, once the source is fenced: they go into the target's open transaction.
    [[nodiscard]] Result<void> fetch_missing();
    [[nodiscard]] Result<void> ask_source();  // when the stream has ended
    [[nodiscard]] Result<void> ask_target();  // when the target has committed
    [[nodiscard]] Result<void> judge(Deadline deadline);

  private:
    struct Barrier {
        std::unique_ptr<ReplicationStream> source_keeper;  // holds the source's snapshot
        std::string source_snapshot;
        std::unique_ptr<ServerSession> target_keeper;
        std::string target_snapshot;
        ChangedRows changed;  // up to here
    };
    struct Pair {
        std::unique_ptr<ServerSession> source;
        std::unique_ptr<ServerSession> target;
    };

    [[nodiscard]] Result<Barrier> make_barrier(ServerSession& source);
    [[nodiscard]] Result<Barrier> come_to_barrier(ServerSession& source);
    [[nodiscard]] Result<Pair> open_pair(const Barrier& barrier) const;
    [[nodiscard]] Result<void> compare_tables(const Barrier& barrier);
    [[nodiscard]] Result<void> compare_rows(const Barrier& barrier);
    [[nodiscard]] Result<void> judge_rows(const ChangeQuery& query, const QueryRows& source, const QueryRows& target,
                                          std::vector<Difference>& differences);
    [[nodiscard]] Result<void> settle_differences(ServerSession& source);
    [[nodiscard]] static Error mismatch(const std::vector<Difference>& differences);

    const MoveServers* servers_;
    const std::vector<SourceTable>* tables_;
    Follower* follower_;
    std::uint32_t jobs_;
    std::uint64_t rows_verified_ = 0;
    std::uint32_t barriers_made_;  // begins where no other verifier of this move, now or before a restart, has been
    std::vector<Difference> differences_;                     // found at the last barrier
    std::map<const SourceTable*, std::uint64_t> row_counts_;  // when last compared as a whole
    Pair pause_;
    std::vector<ChangeQuery> pause_queries_;
};

}  // namespace pgporter
