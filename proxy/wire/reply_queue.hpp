// ReplyQueue: what a PostgreSQL server still owes for the requests that were sent to it, in order. The heart of pooling: a
// server connection may go back to the pool only when the server says idle AND nothing is owed. Owned by a lease's session;
// sans-io, single-threaded. It must not: look into message bodies, apart from ReadyForQuery's status byte.
//
// Use: sent() for each request before it is written; on_server() for each message of the server; after either, take_simulated() until it
// is empty (replies that we make ourselves come out exactly in their turn).
//
// The rules are PostgreSQL's (protocol flow chapter 55.2; PostgresMain's ignore_till_sync):
// - an error in the extended protocol makes the server skip everything up to the next Sync, a Query included;
// - an error in a Query or FunctionCall skips nothing: their ReadyForQuery follows;
// - Sync and Flush that arrive while the server reads COPY data are ignored: they owe nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace pgporter {

enum class Request : std::uint8_t { query, parse, bind, describe, close, execute, function_call, sync, copy_end };

enum class Handling : std::uint8_t {
    forward,  // the client asked and gets the reply
    swallow,  // we injected the request; only its failure is the client's business
    simulate  // nothing was sent to the server; we answer when its turn comes
};

struct Expected {
    Request request = Request::query;
    Handling handling = Handling::forward;
    std::uint32_t tag = 0;  // the caller's; 0: none
};

class ReplyQueue {
  public:
    // What on_server() found out about one message of the server.
    struct Outcome {
        Handling handling = Handling::forward;  // forward or swallow
        bool unexpected = false;                // the server broke the protocol: end the connection
        bool completed = false;                 // `expected` has had its last reply (not set for trimmed ones)
        Expected expected;
    };

    // A request goes to the server (or, simulated, takes its place in the order). False: the server will skip it, because an error
    // came before and no Sync yet; nothing is owed for it, and what it was to change must not be recorded.
    bool sent(Expected expected);
    // CopyData needs no call. CopyDone and CopyFail are Request::copy_end.

    // One message of the server, by type; `status` is ReadyForQuery's byte. NoticeResponse, ParameterStatus and NotificationResponse
    // are not replies and must not be passed.
    Outcome on_server(char type, char status = 0);
    // The requests that the last error made void (with a tag), newest first, for undoing. Valid until the next on_server().
    [[nodiscard]] const std::vector<Expected>& trimmed() const { return trimmed_; }

    // The simulated reply whose turn it is, if any.
    std::optional<Expected> take_simulated();

    [[nodiscard]] bool is_empty() const { return count_ == 0; }
    [[nodiscard]] std::size_t size() const { return count_; }
    // A ReadyForQuery is owed for the last request: everything before it will be answered without a further request.
    [[nodiscard]] bool ends_with_ready() const;
    // Some ReadyForQuery is owed.
    [[nodiscard]] bool owes_ready() const;
    [[nodiscard]] bool is_copying_in() const { return copying_in_; }
    [[nodiscard]] bool is_skipping() const { return skipping_; }
    [[nodiscard]] char status() const { return status_; }  // 'I', 'T' or 'E', of the last ReadyForQuery
    // Extended requests were sent and no Sync behind them: whatever they did is not committed yet.
    [[nodiscard]] bool has_open_batch() const { return open_batch_; }
    // Nothing owed, not in a transaction, not copying, nothing to be skipped, no batch open: the lease may end.
    [[nodiscard]] bool is_idle() const { return count_ == 0 && status_ == 'I' && !copying_in_ && !skipping_ && !open_batch_; }
    void reset();
    // Nothing of what is owed will come: all that has a tag, newest first, for undoing. Valid until the next on_server().
    const std::vector<Expected>& give_up();
    // After reset(): a transaction block is open already.
    void begin_in_transaction() { status_ = 'T'; }

  private:
    Expected& at(std::size_t i) { return ring_[(first_ + i) & (ring_.size() - 1)]; }
    void push(Expected expected);
    void pop();
    void remove(std::size_t i);
    void drop_stale_copy_ends();
    void begin_copy_in();
    Outcome on_error();
    Outcome finish(Outcome outcome);

    static constexpr std::size_t ring_size_min = 16;
    std::vector<Expected> ring_;  // empty, or a power of two
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    std::vector<Expected> trimmed_;
    bool skipping_ = false;    // an extended-protocol error was seen and no Sync was sent after it
    bool copying_in_ = false;  // the server reads COPY data and has not been told the end
    bool open_batch_ = false;
    char status_ = 'I';
};

}  // namespace pgporter
