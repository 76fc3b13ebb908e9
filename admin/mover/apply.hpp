// Applier: repeats changes on the target over one connection in pipeline mode: statements go out without waiting for
// answers, many source transactions become one target transaction, and the progress row is part of it, so that each
// change is applied exactly once whatever breaks. Changes of different tables don't know each other there (no foreign
// key or trigger fires), so each table collects its own batch; within a table their order is kept. Owned by the thread
// that follows the stream. It must not: go on after an answer that isn't exactly the rows that were changed.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "admin/mover/apply_batch.hpp"
#include "admin/mover/apply_statements.hpp"
#include "admin/mover/lsn.hpp"
#include "admin/mover/move_servers.hpp"

namespace pgporter {

enum class Durability {
    later,  // synchronous_commit off: quick, and lost together with its progress row if the target dies
    now     // flushed when the answer comes, and everything before it too
};

enum class Rows { one, one_or_none };  // what a change must hit

// A change of which only the target's answer tells what it meant: the row's key, and whether it was there.
struct TrackedRow {
    const SourceTable* table = nullptr;
    std::string key;  // see encode_key()
    bool hit = false;
};

class Applier {
  public:
    // The progress table must exist. `search_path`: where the comparisons of key columns find their operators.
    [[nodiscard]] static Result<Applier> connect(const MoveServers& servers, const std::string& search_path);

    // Into the table's batch, which goes out when it is full, or before anything else that is done with the table. False:
    // this change must go by change().
    [[nodiscard]] Result<bool> collect(const SourceTable& table, const pgoutput::Message& change);
    [[nodiscard]] Result<void> change(const SourceTable& table, const ApplyStatement& statement, Rows rows = Rows::one);
    // The same with one or no row; the answer is added to take_tracked().
    [[nodiscard]] Result<void> change_tracked(const SourceTable& table, const ApplyStatement& statement, std::string key);
    [[nodiscard]] std::vector<TrackedRow> take_tracked() { return std::exchange(tracked_, {}); }
    // Asks the target for the answers so far, which it else keeps until the transaction's end.
    [[nodiscard]] Result<void> ask_for_answers();
    [[nodiscard]] Result<void> run(const std::string& sql);  // any statement, in the same transaction
    // Ends the target transaction (opens one if need be): everything up to `end` of the source is in it or before it.
    [[nodiscard]] Result<void> commit(Lsn end, Durability durability);

    // Takes the answers that are there and sends what can be sent, without waiting.
    [[nodiscard]] Result<void> advance();
    // Waits until every answer has come.
    [[nodiscard]] Result<void> settle(const Deadline& deadline);

    [[nodiscard]] bool transaction_open() const { return open_; }
    [[nodiscard]] std::size_t changes_open() const { return changes_open_; }
    [[nodiscard]] std::size_t unanswered() const { return expected_.size(); }
    [[nodiscard]] bool wants_to_write() const { return unsent_; }
    [[nodiscard]] Lsn applied() const { return applied_; }  // committed on the target
    [[nodiscard]] Lsn durable() const { return durable_; }  // and flushed
    [[nodiscard]] ServerSession& session() { return *session_; }

  private:
    enum class Answer { any, rows, one_or_none, tracked, commit, sync };
    struct Expected {
        Answer answer = Answer::any;
        const SourceTable* table = nullptr;
        Lsn end;
        Durability durability = Durability::later;
        std::string key;
        std::size_t rows = 1;
    };

    explicit Applier(std::unique_ptr<ServerSession> session) : session_(std::move(session)) {}
    [[nodiscard]] Result<void> open();
    [[nodiscard]] Result<void> queue(int sent, Expected expected);
    [[nodiscard]] Result<void> make_room();
    [[nodiscard]] Result<void> take(const PGresult* result);
    [[nodiscard]] Error broken() const;

    std::unique_ptr<ServerSession> session_;
    [[nodiscard]] Result<void> send(const std::string& sql, const char* const* values, std::size_t count, Expected expected);
    [[nodiscard]] Result<void> send_alone(const SourceTable& table, const ApplyStatement& statement, Expected expected);
    [[nodiscard]] Result<void> flush(const SourceTable& table, Batch& batch);
    [[nodiscard]] Result<void> flush_all();

    std::deque<Expected> expected_;
    std::size_t expected_rows_ = 0;                         // of what is in expected_
    std::unordered_map<const SourceTable*, Batch> batches_;  // of tables that have been changed, most of them empty
    std::size_t collected_ = 0;                             // rows in all batches
    std::vector<TrackedRow> tracked_;
    std::unordered_map<std::string, std::string> prepared_;  // text > name
    std::size_t changes_open_ = 0;
    bool open_ = false;
    bool unsent_ = false;
    Lsn applied_;
    Lsn durable_;
};

// The table pgporter_move_<id>.progress on the target, with one row. Its cleanup record must exist before. `signature`:
// of the source's schema when it was made, for whoever goes on after a restart.
[[nodiscard]] Result<void> create_progress_table(ServerSession& target, const MoveServers& servers,
                                                 const std::string& signature);
[[nodiscard]] Result<std::string> read_progress_signature(ServerSession& target, const MoveServers& servers);

}  // namespace pgporter
