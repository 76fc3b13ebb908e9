// Follower: reads the source's stream and applies it to the target until something asked for is seen: a marker, a
// barrier, or the end of a piece of work that runs beside it. Remembers which rows changed since the last barrier.
// Owned and driven by the move's thread; a driver waits for both servers at once and hears the move's Interrupt.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "admin/mover/apply.hpp"
#include "admin/mover/changed_rows.hpp"
#include "admin/mover/id_blocks.hpp"
#include "admin/mover/piece_map.hpp"
#include "admin/mover/pgoutput.hpp"
#include "admin/mover/replication_stream.hpp"
#include "base/metrics.hpp"

namespace pgporter {

struct FollowCounters {
    std::uint64_t changes = 0;
    std::uint64_t transactions = 0;
    std::uint64_t lag_bytes = 0;
    metrics::Counter* changes_total = nullptr;
};

class Follower {
  public:
    Follower(const MoveServers& servers, const std::vector<SourceTable>& tables, std::string search_path,
             FollowCounters& counters);

    // Connects both ends and starts where the target's progress row says. Also after a connection broke.
    [[nodiscard]] Result<void> connect();

    // Applies until the transaction with this in-band message has been received whole. It is applied, but its target
    // transaction is still open: the caller adds what belongs to it and calls commit().
    [[nodiscard]] Result<void> follow_to_marker(const std::string& content, Deadline deadline);
    // Applies exactly the transactions whose commit is before the barrier, commits them on the target, and pauses
    // there.
    [[nodiscard]] Result<void> follow_to_barrier(Lsn barrier, Deadline deadline);
    // Applies until no source transaction is half received, and commits on the target: no transaction of ours is open
    // anywhere. Where source and target are one server, a slot is never made while one is: it would wait for us, and we
    // for it.
    [[nodiscard]] Result<void> come_to_rest();
    void leave_barrier() { barrier_.reset(); }
    // Applies until `work` (on a thread of its own) has returned; its result.
    [[nodiscard]] Result<void> follow_during(const std::function<Result<void>()>& work);
    [[nodiscard]] Result<void> follow_for(std::chrono::milliseconds duration);
    // Ends the target transaction and waits for the answers.
    [[nodiscard]] Result<void> commit(Durability durability, Deadline deadline);
    [[nodiscard]] Result<void> send_commit(Durability durability);  // and settle() waits

    [[nodiscard]] Applier& applier() { return *applier_; }
    // What changed since the last call; from now on the next set is collected.
    [[nodiscard]] ChangedRows take_changed() { return std::exchange(changed_, ChangedRows{}); }
    [[nodiscard]] const ChangedRows& changed() const { return changed_; }
    void put_back_changed(const ChangedRows& taken) { changed_.add_all(taken); }
    // Tables that were truncated, or may have been, between the copy's snapshot and its reading: rows that the stream
    // changes before it truncates them can be missing. What isn't explained by that, the comparison finds.
    void be_lenient_with(std::set<const SourceTable*> tables) { lenient_ = std::move(tables); }
    void be_strict() { lenient_.clear(); }
    // What of the stream is in the copied pieces isn't applied again; it must outlive this. Null: the stream begins where the copy ends.
    void set_pieces(const PieceMap* pieces) { pieces_ = pieces; }
    // Rows of shared tables that have come in from another tenant, of which the stream didn't tell everything: to be copied
    // again from the source, at a point that both sides are at. Known when the applied changes have been answered.
    using MissingRows = std::map<const SourceTable*, std::unordered_set<std::string>>;
    [[nodiscard]] const MissingRows& missing() const { return missing_; }
    [[nodiscard]] MissingRows take_missing() { return std::exchange(missing_, {}); }
    // The way into shared tables: rows are held against these blocks, which must outlive this.
    void set_id_blocks(const IdBlocks* blocks) { id_blocks_ = blocks; }
    // Changes of global tables seen since the beginning, which stay where they are. Each is counted in the target's transaction, too.
    [[nodiscard]] std::uint64_t left_behind() const { return left_behind_; }
    // Waits for the answers of what was applied, without ending the target's transaction.
    [[nodiscard]] Result<void> settle(Deadline deadline);
    [[nodiscard]] Lsn end() const { return end_; }
    void record_changes(bool record) { recording_ = record; }
    void set_tick(std::function<void()> tick) { tick_ = std::move(tick); }  // about every 200 ms while following
    void close();  // both connections: so that the slot can be dropped

  private:
    // Goes on until done() says so; done() is asked after each message and each wake.
    [[nodiscard]] Result<void> follow(const std::function<bool()>& done, Deadline deadline, int wake_fd);
    [[nodiscard]] Result<bool> take_messages(const std::function<bool()>& done);
    [[nodiscard]] Result<void> take_message(std::string_view bytes);
    [[nodiscard]] Result<void> take_begin(const pgoutput::Begin& begin);
    [[nodiscard]] Result<void> take_commit(const pgoutput::Commit& commit);
    [[nodiscard]] Result<void> take_relation(const pgoutput::Relation& relation);
    [[nodiscard]] Result<void> take_change(pgoutput::RelationId id, const pgoutput::Message& message);
    [[nodiscard]] Result<void> apply_change(const SourceTable& table, const pgoutput::Message& message);
    void count_change(const SourceTable& table, const pgoutput::Message& message);
    [[nodiscard]] Result<void> take_shared_change(const SourceTable& table, const pgoutput::Message& message);
    [[nodiscard]] bool is_to_come(const SourceTable& table, const pgoutput::Message& message);
    [[nodiscard]] Result<void> leave_behind(const SourceTable& table);
    [[nodiscard]] Result<void> note_tracked();
    [[nodiscard]] Result<void> take_truncate(const pgoutput::Truncate& truncate);
    [[nodiscard]] Result<const SourceTable*> known_table(pgoutput::RelationId id) const;
    [[nodiscard]] Result<void> rest();  // the stream is momentarily empty
    [[nodiscard]] Result<void> keep_time();
    [[nodiscard]] Result<void> wait(const Deadline& deadline, int wake_fd);
    [[nodiscard]] Lsn confirmable() const;

    const MoveServers* servers_;
    std::unordered_map<pgoutput::RelationId, const SourceTable*> tables_;
    std::string search_path_;
    FollowCounters* counters_;
    std::function<void()> tick_;
    std::optional<ReplicationStream> stream_;
    std::optional<Applier> applier_;
    ChangedRows changed_;
    std::set<const SourceTable*> lenient_;
    MissingRows missing_;
    const IdBlocks* id_blocks_ = nullptr;
    const PieceMap* pieces_ = nullptr;
    std::uint64_t left_behind_ = 0;
    bool recording_ = false;
    bool shared_ = false;  // some table has other tenants' rows too

    bool in_transaction_ = false;          // of the source
    bool skipping_ = false;                // it is on the target already
    std::optional<pgoutput::Begin> held_;  // the first transaction behind the barrier
    std::optional<Lsn> barrier_;
    std::uint32_t transaction_ = 0;  // of the source, being received
    Lsn end_;                  // of the last source transaction received whole
    std::string marker_;       // of the transaction being received
    std::string marker_seen_;  // of the last one with a marker that was received whole
    std::chrono::steady_clock::time_point durable_at_;
    std::chrono::steady_clock::time_point ticked_at_;
};

}  // namespace pgporter
