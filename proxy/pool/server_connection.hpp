// ServerConnection: one connection to a PostgreSQL server, from login to end. Owned by its Pool; used on that pool's thread. Its
// downlink coroutine reads as long as it lives: for whoever holds the lease, for our own queries, or (idle) to notice the end.
//
// It must not: decide who gets it (Pool does), or interpret a client's protocol (the session does).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "proxy/net/deadline_wheel.hpp"
#include "proxy/net/event.hpp"
#include "proxy/net/io_thread.hpp"
#include "proxy/net/silence.hpp"
#include "proxy/net/stream.hpp"
#include "proxy/net/write_buffer.hpp"
#include "proxy/pool/bulk_pace.hpp"
#include "proxy/pool/context.hpp"
#include "proxy/pool/lease_holder.hpp"
#include "proxy/pool/served_tenants.hpp"
#include "proxy/pool/server_address.hpp"
#include "proxy/pool/statement_cache.hpp"
#include "proxy/wire/frame_reader.hpp"
#include "proxy/wire/server_login.hpp"

namespace pgporter {

class Pool;
class ServerConnection;
struct ServerError;
using ServerPtr = std::shared_ptr<ServerConnection>;

// What a query of our own gave: the rows of its last result, in text.
using TextRow = std::vector<std::optional<std::string>>;
struct QueryAnswer {
    std::vector<TextRow> rows;
};

struct ServerOptions {
    ServerAddress address;
    std::string database;
    std::string user;
    ServerCredential credential;
    Milliseconds connect_ms_max{5000};
    Milliseconds prologue_ms_max{5000};
    std::size_t statements_max = 500;
    Settings startup_parameters;  // besides user, database and client_encoding, which they may replace
    Milliseconds silent_ms_max{0};
};

class ServerConnection : public std::enable_shared_from_this<ServerConnection> {
  public:
    // idle: in the pool. leased: lent. closing: no more.
    enum class State { idle, leased, closing };
    // How it ended, as far as its holder should be told something else than that.
    enum class Loss { closed, silent, out_of_memory };

    // Connects and logs in. The error's sqlstate is the server's own where it gave one.
    static Task<Result<ServerPtr>> open(IoThread& thread, ServerOptions options);

    ServerConnection(const ServerConnection&) = delete;
    ServerConnection& operator=(const ServerConnection&) = delete;
    ~ServerConnection();

    // Starts the downlink; `pool` is told when the connection ends.
    void run(Pool* pool);

    // Makes the context true and proves it, for a session that is about to use the connection. No-op where that is known already.
    // An error leaves the connection unfit: give it back, it will be closed or reset.
    [[nodiscard]] Task<Result<void>> establish(ContextPtr context, SessionId session);
    // The same for a session that stays: sets, without resetting what pins it.
    [[nodiscard]] Task<Result<void>> establish_again(ContextPtr context, SessionId session);
    [[nodiscard]] bool is_established(const ContextPtr& context, SessionId session) const {
        return context_session_ == session && context_ == context && !needs_discard_all_;
    }
    // The same without waiting (decision 0019): whoever holds the lease puts a prologue (session/prologue_ahead.hpp) in front of what it sends
    // next. PostgreSQL skips all of that should anything of the prologue fail. Until the holder is told on_proven(), it may send only what
    // leaves in the same turn. Never before a first establish().
    enum class Wipe { discard_all, parts, prepared_parts };  // the last session's traces: parts are prepared with the first prologue that uses them
    [[nodiscard]] bool may_go_ahead() const { return !untouched_ && !ahead_ && out_.is_empty(); }
    [[nodiscard]] Wipe go_ahead(ContextPtr context, SessionId session);
    [[nodiscard]] bool owes_proof() const { return ahead_.has_value(); }
    // One simple Query of our own. Only while no client request is under way.
    [[nodiscard]] Task<Result<QueryAnswer>> query(std::string sql, Milliseconds ms_max);
    // The same with bind parameters (extended protocol, unnamed statement).
    [[nodiscard]] Task<Result<QueryAnswer>> query_params(std::string sql, std::vector<std::optional<std::string>> parameters,
                                                         Milliseconds ms_max);

    // An idle connection goes to another thread with all that is known of it: its downlink ends, then `arrived` runs there, which starts it anew
    // with run(). Nobody may use it in between.
    void move_to(IoThread& thread, std::function<void(ServerPtr)> arrived);

    void lend(std::shared_ptr<LeaseHolder> holder);
    void take_back();  // the holder is done; the Pool decides what follows
    void close();
    // To be called every second while it is lent: closes it when the server's host is gone.
    void look_for_silence(SteadyTime now);
    [[nodiscard]] Loss loss() const { return loss_; }
    // For a connection that was opened but never run: whoever takes the stream owns what is on it.
    [[nodiscard]] std::unique_ptr<Stream> release_stream();

    // For the holder.
    [[nodiscard]] bool send(std::string_view bytes) { return out_.write(*stream_, bytes); }
    [[nodiscard]] bool is_send_blocked() const { return !out_.is_empty(); }
    [[nodiscard]] std::size_t unsent_bytes() const { return out_.size(); }
    [[nodiscard]] Task<bool> flush() { return out_.flush(*stream_); }
    [[nodiscard]] FrameReader& frames() { return frames_; }
    [[nodiscard]] StatementCache& statements() { return statements_; }
    [[nodiscard]] const std::shared_ptr<const Settings>& reported() const { return reported_; }
    void report(std::string_view name, std::string_view value);  // a ParameterStatus came
    // The setting has the server's default, which this value asks for; it was not set.
    [[nodiscard]] bool is_reported_as(std::string_view name, std::string_view value) const;
    // The session's state is now this, by its own doing and as the server said (see session/settings).
    void adopt_context(ContextPtr context) { context_ = std::move(context); }
    void forget_context() { context_session_ = SessionId{}; }
    void require_discard_all() { needs_discard_all_ = true; }
    // The holder's doing: the server has no prepared statement any more, ours included.
    void note_all_deallocated() {
        statements_.clear();
        has_reset_statements_ = false;
    }
    // Who last sent an unnamed Parse here, as a number of the session's; 0: nobody.
    std::uint64_t unnamed_statement = 0;
    PreparedOnServer unnamed_parse;  // that Parse
    std::string replay;  // what the holder may have to send again

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] bool is_establishing() const { return establishing_; }
    [[nodiscard]] IoThread& thread() { return *thread_; }
    [[nodiscard]] bool is_alive() const { return state_ != State::closing && stream_->is_open(); }
    [[nodiscard]] bool looks_dead() const { return !stream_->is_quiet() && stream_->has_input_or_closed(); }
    [[nodiscard]] bool is_between_messages() const { return frames_.at_boundary() && out_.is_empty(); }
    [[nodiscard]] SessionId last_session() const { return context_session_; }
    [[nodiscard]] const ContextPtr& context() const { return context_; }
    [[nodiscard]] const ServerAddress& address() const { return options_.address; }
    [[nodiscard]] const ServerOptions& options() const { return options_; }
    [[nodiscard]] std::uint32_t pid() const { return pid_; }
    [[nodiscard]] const std::string& cancel_key() const { return cancel_key_; }
    [[nodiscard]] SteadyTime opened_at() const { return opened_at_; }
    SteadyTime idle_since{};
    std::uint32_t cancels_in_flight = 0;
    bool retire = false;  // close instead of keeping it idle
    ServedTenants served;

  private:
    struct OwnQuery {
        explicit OwnQuery(const Executor& executor) : done(executor) {}
        Event done;
        QueryAnswer answer;
        std::optional<Error> error;
        std::string message;  // the message that is being read
        int readies_owed = 1;  // simple Queries in the request
        bool finished = false;
    };

    // Of our own queries and of login: a server that sends more than this to us is not one.
    static constexpr std::uint32_t own_message_bytes_max = 1U << 20;
    // A prologue was sent, and its proof hasn't come.
    struct Ahead {
        ContextPtr context;
        SessionId session;
        std::string message = {};  // in pieces
    };

    ServerConnection(IoThread& thread, ServerOptions options, Socket socket);
    [[nodiscard]] Task<Result<void>> log_in();
    [[nodiscard]] bool discards_all() const;
    [[nodiscard]] Task<Result<void>> run_prologue(ContextPtr context);
    [[nodiscard]] Task<Result<void>> run_prologue(ContextPtr context, std::string request, int queries, bool resets_in_parts = false);
    bool on_ahead_bytes(std::string_view& input);
    bool on_ahead_message(char type, std::string_view body);
    void on_ahead_error(const ServerError& error);
    void proven_ahead();
    [[nodiscard]] Task<Result<void>> negotiate_tls();
    [[nodiscard]] Task<Result<QueryAnswer>> run_own_query(std::string request, Milliseconds ms_max, int queries = 1);
    [[nodiscard]] static Task<> downlink(ServerPtr self);
    static void leave_thread(ServerPtr self);
    [[nodiscard]] Task<> read_to_the_end();
    [[nodiscard]] bool is_default(std::string_view name, std::string_view value) const;
    [[nodiscard]] Context without_defaults(const Context& context) const;
    void learn_defaults(const Context& set, const TextRow& row);
    [[nodiscard]] bool reports_rest(const Context& context, const Context& set);
    bool on_bytes(std::string_view& input);
    bool on_own_query_bytes(std::string_view& input);
    void on_own_query_message(char type, std::string_view body);
    bool on_idle_bytes(std::string_view& input);
    void lost();

    struct Move {
        IoThread* to;
        std::function<void(ServerPtr)> arrived;
    };

    IoThread* thread_;
    std::optional<Move> moving_;
    ServerOptions options_;
    std::unique_ptr<Stream> stream_;
    WriteBuffer out_;
    FrameReader frames_;
    Deadline deadline_;
    StatementCache statements_;
    std::shared_ptr<const Settings> reported_ = std::make_shared<const Settings>();
    Settings defaults_;         // what was reported after the last reset
    Settings other_spellings_;  // values that are the same as those
    std::uint32_t pid_ = 0;
    std::string cancel_key_;
    State state_ = State::idle;
    Pool* pool_ = nullptr;
    std::shared_ptr<LeaseHolder> holder_;
    OwnQuery* own_query_ = nullptr;
    std::string idle_message_;
    ContextPtr context_;
    SessionId context_session_;  // whose state it has; default: nobody's known
    bool establishing_ = false;
    bool untouched_ = true;      // nobody has used it since login: nothing to reset
    bool needs_discard_all_ = false;
    bool has_reset_statements_ = false;  // what wipes in parts is prepared
    std::optional<Ahead> ahead_;
    Loss loss_ = Loss::closed;
    SilenceWatch silence_;
    BulkPace bulk_;
    SteadyTime opened_at_;
};

}  // namespace pgporter
