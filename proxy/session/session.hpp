// Session: one client connection from accept to end. Lives on one worker's thread; kept alive by its coroutine and, while it holds
// a lease, by the server connection.
//
// There are two loops: the uplink (a coroutine of the session's own) reads the client and writes the server; the downlink (the server connection's
// coroutine) calls on_server_bytes() and writes the client. While there is no lease only the uplink writes the client; while there is one
// only the downlink does, and what the uplink has to say goes through the reply queue. So each stream has one writer.
//
//   session.cpp           life: start, end, cancel, drain
//   session_login.cpp     startup packet, TLS, SCRAM, who is the tenant, welcome
//   session_lease.cpp     gate, pool, context: getting and returning a server connection
//   session_uplink.cpp    reading the client, framing, streaming
//   session_requests.cpp  what each request means for pooling: statement names, local answers
//   session_downlink.cpp  what each reply means for pooling
//   session_inspection.cpp  what a transaction has changed in the session's state: settings, pins
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/end_reason.hpp"
#include "proxy/net/stream.hpp"
#include "proxy/net/write_buffer.hpp"
#include "proxy/pool/lease_holder.hpp"
#include "proxy/session/client_errors.hpp"
#include "proxy/session/foreign_tenant.hpp"
#include "proxy/session/prepared_statements.hpp"
#include "proxy/session/statement_scan.hpp"
#include "proxy/session/worker.hpp"
#include "proxy/wire/frame_reader.hpp"
#include "proxy/wire/reply_queue.hpp"
#include "proxy/wire/scram.hpp"
#include "proxy/wire/startup.hpp"
#include "router/identify.hpp"
#include "router/route.hpp"

namespace pgporter {

struct Listener {  // what a session needs of where it came in
    ListenConfig config;
    std::shared_ptr<TlsContext> tls;  // null: no TLS there
};

class Session final : public LeaseHolder, public std::enable_shared_from_this<Session> {
  public:
    static void start(Worker& worker, Socket socket, std::shared_ptr<const Listener> listener);
    Session(Worker& worker, Socket socket, std::shared_ptr<const Listener> listener);
    ~Session() override;

    void cancel_request();                           // a CancelRequest with this session's key came
    void drain();                                    // end at the next safe point, now if idle
    void end(EndReason reason, const Error* error);  // the first reason wins; `error` is told to the client as FATAL

    // LeaseHolder
    bool on_server_bytes(ServerConnection& server, std::string_view& input) override;
    [[nodiscard]] bool is_client_blocked() const override { return !client_out_.is_empty(); }
    [[nodiscard]] Task<> flush_client() override;
    void on_client_flushed(ServerConnection& server) override;
    void on_notification(std::string_view body) override;
    void on_server_lost(ServerConnection& server) override;

    [[nodiscard]] SessionId id() const { return id_; }
    [[nodiscard]] const std::string& tenant_name() const { return identity_.tenant; }
    [[nodiscard]] const std::string& user() const { return identity_.user; }
    [[nodiscard]] const std::shared_ptr<const ScramKeys>& learned_keys() const { return learned_keys_; }

  private:
    enum class Step { done, need_server, server_blocked, client_blocked, wait_for_replies, ended };
    enum class Partial { none, gather, bind_names, bind_ready, stream_start, stream, drop };
    // What is undone when the server never did it.
    struct Operation {
        enum class Kind { name_statement, prepare_on_server, close_name, evict_from_server, unnamed_parse, local_query, rename_tag } kind;
        std::string name;
        StatementPtr statement;
        StatementNumber number = 0;
        std::string reply;  // local_query, rename_tag
    };

    static Task<> run(std::shared_ptr<Session> self);

    // session_login.cpp
    Task<bool> log_in();
    Task<bool> read_startup(StartupMessage& message);
    Task<std::optional<std::string>> read_startup_packet();
    Task<std::optional<std::string>> read_login_message();
    Task<Result<void>> authenticate(std::string user);
    Task<Result<std::string>> find_verifier(std::string user);
    Task<Result<std::string>> query_verifier(std::string user);
    Task<Result<void>> welcome();
    Task<bool> refuse_login(EndReason reason, Error error);
    void handle_cancel_packet(const CancelRequest& request);
    [[nodiscard]] Result<void> resolve_identity(const StartupMessage& message, LoginRequest& login, Result<Identity>& identity) const;
    Result<void> admit();
    void make_startup_context();

    // session_lease.cpp
    Result<void> refresh_route();
    [[nodiscard]] Standpoint standpoint() const;
    [[nodiscard]] ContextPtr wanted_context();
    bool try_begin_lease();  // the quick way: same connection, same context, gate open
    Task<Result<void>> obtain_server();
    Task<Result<void>> wait_at_gate();
    Task<Result<void>> wait_for_cap(bool& has_place);
    Task<Result<ServerPtr>> wait_in_pool();
    Task<Result<void>> wait(PoolWaiter& waiter, Milliseconds ms_max, Error timeout);
    void begin_watching_client();
    static Task<> watch_client(std::shared_ptr<Session> self);
    void start_lease(ServerPtr server);
    void end_lease();
    void tell_parameter_changes();
    static Task<> roll_back_and_return(ServerPtr server, std::shared_ptr<Pool> pool, TenantDesk* desk);
    static Task<> send_cancel(ServerPtr server, std::shared_ptr<Pool> pool, DataPathShared* shared);
    void abandon_lease();

    // session_uplink.cpp
    Task<> uplink();
    Task<bool> take_step(Step step, std::string_view& input);
    Step process(std::string_view& input);
    Step process_all(std::string_view& input);
    [[nodiscard]] bool must_wait() const;
    [[nodiscard]] bool has_ready_partial() const;
    Step begin_partial(std::string_view& input);
    Step continue_partial(std::string_view& input);
    Step start_bind();
    void finish_partial();
    void to_server(std::string_view bytes);
    bool flush_to_server();
    void say(std::string_view bytes);  // to the client; only without a lease
    void fail_request(const Error& error, std::string_view& input);

    // session_requests.cpp
    Step on_request(char type, std::string_view body, std::string_view whole);
    Step refuse_parse(const Error& error);
    Step on_query(std::string_view body, std::string_view whole);
    bool answer_locally(const StatementTraits& traits);
    Step reset_session(const StatementTraits& traits);
    Step on_parse(std::string_view body, std::string_view whole);
    [[nodiscard]] std::string statement_owner() const;
    void parse_named(std::string_view name, std::string_view definition);
    Step on_bind(std::string_view portal, std::string_view statement, std::string_view rest, std::uint32_t body_length);
    Step on_describe(std::string_view body, std::string_view whole);
    Step on_close(std::string_view body, std::string_view whole);
    std::string statement_for_server(std::string_view name);
    void ensure_on_server(const StatementPtr& statement);
    void prepare_on_server(const StatementPtr& statement, Handling handling, std::uint32_t tag);
    void ensure_unnamed_on_server();
    std::uint32_t remember(Operation operation);
    void note_traits(const StatementTraits& traits);
    Step begin_stream(char type, std::uint32_t body_length);
    [[nodiscard]] bool needs_server(char type, std::uint32_t body_length) const;
    [[nodiscard]] bool is_unsettled(std::string_view name) const;
    Step terminate();
    bool execute_by_sql(std::string_view sql);
    bool reset_to_beginning(const StatementTraits& traits);
    void forget_operation(std::uint32_t tag);

    // session_downlink.cpp
    bool on_reply(char type, std::string_view body, std::string_view whole);
    bool on_partial_reply(ServerConnection& server, std::string_view& input);
    void on_error_reply(std::string_view body, std::string_view whole);
    void on_ready();
    void undo(const Expected& expected);
    void complete(const Expected& expected, char type);
    void say_simulated();
    void flush_to_client();
    void finish_transaction();
    [[nodiscard]] std::string with_client_names(std::string_view body, std::string_view whole) const;

    // session_inspection.cpp
    static Task<> inspect(std::shared_ptr<Session> self);
    Context adopt_inspection(const QueryAnswer& answer);
    [[nodiscard]] std::string inspection_sql() const;
    void set_pins(std::set<std::string> pins);
    [[nodiscard]] bool is_pinned() const { return !pins_.empty(); }
    metrics::Gauge& pin_gauge(const std::string& reason);

    Worker& worker_;
    SessionId id_;
    std::shared_ptr<const Listener> listener_;
    Stream client_;
    WriteBuffer client_out_;
    FrameReader client_frames_;
    Deadline login_deadline_;
    Deadline deadline_;       // the client doesn't read; the wait for a connection
    Deadline idle_deadline_;  // idle in transaction
    EndReason end_reason_ = EndReason::none;
    bool counted_login_ = false;
    bool counted_session_ = false;
    bool draining_ = false;
    std::string login_input_;  // bytes read ahead during the login

    // Who it is.
    Identity identity_;
    std::shared_ptr<const ScramKeys> learned_keys_;
    CancelKey cancel_key_;
    bool has_cancel_key_ = false;

    // Where it goes.
    TenantPtr tenant_;
    TenantDesk* desk_ = nullptr;  // null: the home database
    CatalogVersion route_version_;
    bool has_route_ = false;
    std::shared_ptr<Pool> pool_;
    PoolMode pool_mode_ = PoolMode::transaction;

    // Its state, wherever it goes.
    Context own_state_;              // role, search_path, settings as the session has them now
    Context startup_state_;          // what DISCARD ALL and RESET ALL go back to
    ContextPtr context_;             // own_state_, shared with the server connection that has it
    StatementNames names_;
    std::string unnamed_definition_;  // Parse body after the name
    std::shared_ptr<const StatementTraits> unnamed_traits_;
    std::uint64_t unnamed_serial_ = 0;  // 0: there is no unnamed statement
    std::uint64_t last_serial_ = 0;
    std::shared_ptr<const Settings> client_reported_;  // what the client was told by ParameterStatus
    std::set<std::string> custom_settings_;            // names with a dot that it has set
    std::set<std::string> pins_;

    // The lease.
    ServerPtr server_;
    ReplyQueue replies_;
    std::unordered_map<std::uint32_t, Operation> operations_;
    std::uint32_t last_tag_ = 0;
    bool state_is_suspect_ = false;  // this transaction ran something that may change the session's state
    bool context_was_reset_ = false;  // DISCARD ALL ran on the server
    bool inspecting_ = false;
    bool goes_back_ = false;    // RESET and its like ran: what became a default is set to the session's beginning again
    std::pair<std::string, StatementNumber> deallocating_;  // DEALLOCATE of it is under way in the extended protocol
    bool has_barrier_ = false;  // what was sent may change names or settings: nothing more is sent before it is answered
    bool terminating_ = false;  // Terminate came: the session ends when everything owed has been delivered
    std::uint32_t batch_ = 0;   // Syncs sent in this lease
    std::unordered_map<std::string, std::uint32_t> unsettled_names_;  // a Parse or Close of it is under way, since which batch
    std::unordered_map<StatementNumber, std::uint32_t> unsettled_statements_;  // the same, as the server knows them
    bool resetting_ = false;  // DISCARD ALL or RESET ALL waits for a server connection
    bool lease_ends_after_flush_ = false;
    bool server_said_fatal_ = false;
    PoolWaiter* current_wait_ = nullptr;
    bool watching_client_ = false;
    Event wake_;  // the uplink waits for the downlink
    bool uplink_waits_ = false;

    // The message that is being read from the client.
    Partial partial_ = Partial::none;
    std::string gathered_;
    std::string reply_;            // a reply that came in pieces
    bool reply_streams_ = false;   // its pieces are passed on as they come
    bool reply_forwarded_ = false;
    bool skip_to_sync_ = false;  // an extended request failed without a server: skip as PostgreSQL does
};

}  // namespace pgporter
