// Session: one client connection from accept to end. Lives on one worker's thread; kept alive by its coroutine and, while it holds
// a lease, by the server connection.
//
// There are two loops: the uplink (a coroutine of the session's own) reads the client and writes the server; the downlink (the server connection's
// coroutine) calls on_server_bytes() and writes the client. While there is no lease only the uplink writes the client; while there is one
// only the downlink does, and what the uplink has to say goes through the reply queue. So each stream has one writer.
//
//   session.cpp           life: start, end, cancel, drain
//   session_entry.cpp     where the client comes from: PROXY header, bounds by address, allow-lists; cancel requests
//   session_login.cpp     startup packet, SCRAM, who is the tenant, welcome
//   session_replication.cpp  a replication connection: a server connection of its own, bytes both ways
//   session_tls.cpp       direct TLS, requests for encryption, handshakes, client certificates
//   session_lease.cpp     gate, pool, context: getting and returning a server connection
//   session_ahead.cpp     the same without waiting for the context
//   session_limits.cpp    what the tenant may use: places, rates, time
//   session_uplink.cpp    reading the client, framing, streaming
//   session_requests.cpp  what each request means for pooling: statement names, local answers
//   session_statements.cpp  prepared statements: the client's names, what a server connection has of them
//   session_reuse.cpp       repeated unnamed statements
//   session_descriptions.cpp  what the client was told of its statements, and whether that is still so on another server connection
//   session_downlink.cpp  what each reply means for pooling
//   session_inspection.cpp  what a transaction has changed in the session's state: settings, pins
//   session_naming.cpp    the tenant in SQL: what a statement sets, for whom the session speaks then
//   session_local.cpp     statements about the session that are parsed without a server
//   session_portals.cpp   what is bound to them
#pragma once

#include <boost/asio/recycling_allocator.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/end_reason.hpp"
#include "proxy/net/client_address.hpp"
#include "proxy/net/stream.hpp"
#include "proxy/net/write_buffer.hpp"
#include "proxy/pool/cluster_places.hpp"
#include "proxy/pool/lease_holder.hpp"
#include "proxy/session/client_errors.hpp"
#include "proxy/session/foreign_tenant.hpp"
#include "proxy/session/held_transaction.hpp"
#include "proxy/session/operation.hpp"
#include "proxy/session/prepared_statements.hpp"
#include "proxy/session/rare.hpp"
#include "proxy/session/reused_texts.hpp"
#include "proxy/session/replication_relay.hpp"
#include "proxy/session/statement_scan.hpp"
#include "proxy/session/worker.hpp"
#include "proxy/wire/frame_reader.hpp"
#include "proxy/wire/reply_queue.hpp"
#include "proxy/wire/scram.hpp"
#include "proxy/wire/startup.hpp"
#include "router/access.hpp"
#include "router/identify.hpp"
#include "router/route.hpp"

namespace pgporter {

struct Listener {  // what a session needs of where it came in
    ListenConfig config;
    std::shared_ptr<ListenerTls> tls;  // null: no TLS there
};

struct ServerError;

class Session final : public LeaseHolder, public std::enable_shared_from_this<Session> {
  public:
    // `is_one_too_many`: it is only told that there is no place for it.
    static void start(Worker& worker, Stream::Descriptor socket, std::shared_ptr<const Listener> listener, bool is_one_too_many = false);
    Session(Worker& worker, Stream::Descriptor socket, std::shared_ptr<const Listener> listener);
    ~Session() override;

    void cancel_request(std::function<void()> handled);  // a CancelRequest with this session's key came
    void drain();                                        // end at the next safe point, now if idle
    void end_at_safe_point(const Error& error);          // the same, for a reason of its own; the first one is told
    void on_snapshot();                                  // the worker has a new one
    void end(EndReason reason, const Error* error);  // the first reason wins; `error` is told to the client as FATAL

    // LeaseHolder
    bool on_server_bytes(ServerConnection& server, std::string_view& input) override;
    [[nodiscard]] bool is_client_blocked() const override { return !client_out_.is_empty(); }
    [[nodiscard]] Task<> flush_client() override;
    [[nodiscard]] bool must_slow_down() const override { return pause_wanted().count() != 0; }
    [[nodiscard]] Task<> slow_down() override;
    void on_client_flushed(ServerConnection& server) override;
    void on_notification(std::string_view body) override;
    void on_out_of_memory() override;
    void on_proven(ServerConnection& server) override;
    void on_not_proven(ServerConnection& server, const Error& error) override;
    void on_server_lost(ServerConnection& server) override;

    [[nodiscard]] SessionId id() const { return id_; }
    [[nodiscard]] const std::string& tenant_name() const { return tenant_name_; }
    [[nodiscard]] const std::string& user() const { return identity_.user; }
    [[nodiscard]] const std::shared_ptr<const ScramKeys>& learned_keys() const { return learned_keys_; }

  private:
    // A message, or what a socket couldn't take, up to this: what every connection may have, and nobody counts.
    static constexpr std::size_t uncounted_bytes_max = 65'536;
    enum class Step { done, need_server, server_blocked, client_blocked, wait_for_replies, ended };
    enum class Partial { none, gather, bind_names, bind_ready, stream_start, stream, drop };
    enum class Held { answered, needs_server, refused };
    // What stands behind a statement before the server is idle: more of its Query, or of its batch of the extended protocol.
    enum class Behind { nothing, query, batch };
    // A portal of a statement about the session.
    struct Portal {
        std::shared_ptr<const SessionStatement> statement;
        std::vector<ResolvedChange> changes;
        std::vector<std::uint16_t> result_formats;
        std::string definition;  // of the statement: a Parse message's body after the name
        std::string values;      // a Bind message's body after the names
        std::size_t depth = 0;   // savepoints when it was bound
        bool is_on_server = false;
        bool has_run = false;    // here
    };
    // What a Query of several statements finds.
    struct Before {
        HeldTransaction held;
        ScopedSettings named;
        bool must_set_again;
        bool route_is_stale;
        Rare<Error> refused_naming;
        RareMap<std::unordered_map<std::string, Portal>> portals;
    };
    // What sets one of the session's settings again. `statement`: SET of it, prepared; null: it takes set_config.
    struct Setter {
        StatementPtr statement;
        std::string bind_and_execute;
    };
    // What the session has set by SQL and no statement about tenants did.
    struct OwnSettings {
        std::optional<std::string> role;
        Settings settings;
    };

    static Task<> run(std::shared_ptr<Session> self);
    static Task<> live(std::shared_ptr<Session> self);
    static Task<> within_memory(std::shared_ptr<Session> self, Task<> work);  // the session ends if that runs out of it
    [[nodiscard]] MemoryAccount memory_account();

    // session_entry.cpp
    Task<bool> enter();
    Task<bool> read_proxy_header();
    void leave_login();
    [[nodiscard]] bool may_try_login(const std::string& user);
    Task<Result<void>> authenticate_throttled(std::string user);
    [[nodiscard]] Result<void> check_address() const;
    Task<> handle_cancel_packet(CancelRequest request);

    // session_replication.cpp
    Task<Result<void>> begin_replication();
    Task<Result<void>> wait_for_replication_place(BudgetKey key, BudgetCaps caps);
    Task<> replicate();
    static Task<> replicate_to_client(std::shared_ptr<Session> self);
    void end_replication(const Error& error);
    [[nodiscard]] bool may_replicate_on() const;  // by the snapshot of now

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
    [[nodiscard]] Result<void> resolve_identity(const StartupMessage& message, LoginRequest& login, Result<Identity>& identity) const;
    Result<void> admit();
    void note_startup_settings();

    // session_tls.cpp
    struct EncryptionAsked {
        bool tls = false;
        bool gss = false;
    };
    Task<bool> accept_direct_tls();
    Task<bool> answer_encryption_request(bool is_tls_request, EncryptionAsked& asked);
    Task<bool> secure_client(bool is_direct);
    [[nodiscard]] Result<void> check_client_certificate(std::string_view user) const;
    Task<Result<void>> find_proven_user(std::string user);

    // session_lease.cpp
    Result<void> refresh_route();
    Result<void> enter_tenant(const Route& route, Access access);
    void note_types(char type, std::string_view body);
    [[nodiscard]] bool types_have_moved(const Snapshot& snapshot) const;  // of the tenant that the session speaks for
    [[nodiscard]] std::optional<Error> trouble_with_past(const Access& access) const;
    [[nodiscard]] Standpoint standpoint() const;
    Task<Result<void>> begin_held_back();
    [[nodiscard]] bool must_ask_fence() const;
    Task<Result<void>> ask_fence();
    [[nodiscard]] const SessionContextPtr& wanted_context();
    // The quick way: same connection, same context, gate open. `in_passing`: what must be set again may go out with the next statement.
    bool try_begin_lease(bool in_passing = false);
    // `may_be_ahead`: the next turn of the uplink sends what the client asks for.
    Task<Result<void>> obtain_server(bool may_be_ahead = false);
    Task<Result<void>> wait_at_gate();
    Task<Result<ServerPtr>> wait_in_pool();
    Task<Result<void>> wait(PoolWaiter& waiter, Milliseconds ms_max);  // its error, should it time out, is that of a server connection
    void begin_watching_client();
    void look_after_client(bool is_ready);
    [[nodiscard]] TenantMark tenant_mark_of_desk() const { return desk_ != nullptr ? desk_->mark() : tenant_mark({}); }
    void start_lease(ServerPtr server, Place place);
    void end_lease();
    void tell_parameter_changes();
    [[nodiscard]] std::string parameter_changes();
    static Task<> clean_and_return(ServerPtr server, std::shared_ptr<Pool> pool, std::vector<TenantDesk*> desks, std::vector<Place> places,
                                   std::string sql);
    static Task<> send_cancel(ServerPtr server, std::shared_ptr<Pool> pool, DataPathShared* shared);
    void end_visits();
    void abandon_lease();

    // session_ahead.cpp
    [[nodiscard]] bool may_go_ahead(const ServerConnection& server) const;
    void begin_ahead();
    void put_prologue_ahead();
    void keep_what_was_asked(std::string_view asked);
    void ask_for_proof();
    [[nodiscard]] bool is_guarded(std::string_view bytes);
    [[nodiscard]] Error told_instead(const Error& error) const;
    static Task<> cancel_again(std::shared_ptr<Session> self, ServerPtr server, std::shared_ptr<Pool> pool, DataPathShared* shared);

    // session_limits.cpp
    void note_places();
    [[nodiscard]] Place try_take_place();
    Task<Result<void>> wait_for_place(Place& place);
    [[nodiscard]] bool is_in_rate();
    [[nodiscard]] bool has_rates() const;
    Task<Result<void>> wait_for_rate();
    void charge_bytes(std::size_t bytes);
    [[nodiscard]] Milliseconds pause_wanted() const;
    void begin_times();
    void on_statement_answered();
    void end_times();
    void on_statement_timeout();
    [[nodiscard]] bool only_client_can_go_on() const;
    void bound_idle_transaction();

    // session_uplink.cpp
    Task<> uplink();
    Task<bool> take_step(Step step, std::string_view& input);
    Step process(std::string_view& input);
    Step process_all(std::string_view& input);
    [[nodiscard]] bool must_wait() const;
    [[nodiscard]] bool has_ready_partial() const;
    [[nodiscard]] bool go_on_with_copy_data();
    Step begin_partial(std::string_view& input);
    Step continue_partial(std::string_view& input);
    Step start_bind();
    void finish_partial();
    [[nodiscard]] bool gather(std::string_view piece);
    void refuse_gathered(std::string_view& input);
    [[nodiscard]] bool has_room_for_operations();
    [[nodiscard]] bool bound_next_read();
    void to_server(std::string_view bytes);
    bool flush_to_server();
    // To the client; only without a lease. Leaves with the rest of what this event says, before anything else can be said to anybody.
    void say(std::string_view bytes);
    void flush_said();
    void fail_request(const Error& error, std::string_view& input);

    // session_requests.cpp
    Step on_request(char type, std::string_view body, std::string_view whole);
    Step refuse_parse(const Error& error);
    Step on_query(std::string_view body, std::string_view whole);
    bool answer_locally(const StatementTraits& traits);
    Step reset_session(const StatementTraits& traits);
    Step on_parse(std::string_view body, std::string_view whole);
    void plan_to_give_up(bool gives_up);
    Step parse_named(std::string_view name, std::string_view definition);
    Step on_bind(std::string_view portal, std::string_view statement, std::string_view rest, std::uint32_t body_length);
    Step on_describe(std::string_view body, std::string_view whole);
    Step on_close(std::string_view body, std::string_view whole);
    std::string statement_for_server(std::string_view name);
    [[nodiscard]] StatementPtr statement_here(NamedStatement& named);
    [[nodiscard]] Reading reading_of(std::string_view definition) const;
    void ensure_on_server(const StatementPtr& statement, ParseMoment since = 0);
    void close_on_server(const StatementPtr& statement);
    void prepare_on_server(const StatementPtr& statement, Handling handling, std::uint32_t tag);
    void ensure_unnamed_on_server();
    UnnamedStatement take_unnamed();
    std::uint32_t drop_unnamed();
    Step settle();
    std::uint32_t remember(Operation operation);
    void note_traits(const StatementTraits& traits);
    Step begin_stream(char type, std::uint32_t body_length);
    [[nodiscard]] bool needs_server(char type, std::uint32_t body_length) const;
    [[nodiscard]] bool is_unsettled(std::string_view name) const;
    Step terminate();
    std::optional<Step> execute_by_sql(std::string_view sql);
    bool reset_to_beginning(const StatementTraits& traits);
    void forget_operation(std::uint32_t tag);
    [[nodiscard]] const std::string& statement_owner();
    [[nodiscard]] const StatementTraits* traits_of(std::string_view statement_name) const;
    [[nodiscard]] std::string_view text_of_statement(std::string_view statement_name) const;
    [[nodiscard]] static std::string warning_message(const HeldTransaction::Answer& answer);
    [[nodiscard]] std::string raise_sql(const Error& error) const;

    // session_reuse.cpp
    std::optional<Step> reuse_unnamed(std::string_view& input);
    const std::string& reuse_owner();
    void take_as_unnamed(const StatementPtr& statement, bool is_described);
    [[nodiscard]] bool settle_reuse(char type, Request failed = Request::bind, const ServerError* error = nullptr);
    void replay_unnamed();

    // session_descriptions.cpp
    enum class Fit { same, differs, not_known_yet, is_another };  // is_another: another statement stands for the name now
    Fit find_on_server(std::string_view name, std::string& server_name);
    Fit fit_of(std::string_view statement_name);
    Fit fit_of_named(NamedStatement& named, std::string_view key);
    [[nodiscard]] bool declare_as_told(NamedStatement& named);
    Fit fit_of_unnamed();
    Fit ask_for_description(PreparedOnServer& prepared, const StatementPtr& statement);
    [[nodiscard]] std::uint32_t tag_of_description(std::string_view describe_body);
    void note_portal(std::string_view portal, std::string_view statement);
    [[nodiscard]] bool on_described(char type, std::string_view body, const Expected& expected);
    void learn(const Operation& operation, StatementDescription description);
    void tell_unnamed(char type, std::string_view body);

    // session_naming.cpp
    [[nodiscard]] bool names_in_sql() const { return pool_mode_ == PoolMode::transaction && worker_.config().identify.sql; }
    [[nodiscard]] const User* user_entry() const { return user_entry(identity_.user); }
    [[nodiscard]] const User* user_entry(const std::string& user) const;
    [[nodiscard]] HeldTransaction::World world() const;
    [[nodiscard]] Context startup_state(const Tenant* tenant, const Access& access) const;
    [[nodiscard]] SessionContextPtr session_state() const;
    bool answer_known_set(std::string_view sql);
    [[nodiscard]] Result<void> check_startup_naming(const Settings& asked, const Asker& asker) const;
    Step on_session_query(std::string_view sql);
    Held answer_held(const std::vector<SessionStatement>& statements);
    Held answer_held(const std::vector<SessionStatement>& statements, std::string& text);
    [[nodiscard]] bool may_go_along(const std::vector<SessionStatement>& statements, const ScopedSettings& before) const;
    void refuse_query(const Error& error);
    Result<void> plan_binding(const std::vector<SessionStatement>& statements, std::size_t from);
    Step forward_session_query(std::string_view sql, const std::vector<SessionStatement>& statements);
    Result<void> note_session_statement(const SessionStatement& statement, const std::vector<ResolvedChange>& changes, Behind behind);
    void note_end_of_transaction(const SessionStatement& statement, Behind behind);
    [[nodiscard]] bool is_the_logins() const;
    void note_refused_naming(const Error& error);
    void keep_refused_naming(const std::vector<ResolvedChange>& changes);
    void settle_named();
    void set_again_in_passing();
    [[nodiscard]] Setter setter_for(const std::string& name, const std::string& value);
    void named_changed(const ScopedSettings::View& before);
    void reset_named();

    // session_turns.cpp
    Result<void> turn_by(const std::vector<ResolvedChange>& changes);
    Result<void> turn_to(const ScopedSettings& after, bool goes_back = false);
    [[nodiscard]] bool may_follow_by_path(const Tenant* there, const ScopedSettings& after) const;
    void follow_with_path(const Tenant* target);
    void send_to_follow();

    // session_local.cpp
    bool parse_locally(std::string_view name, std::string_view definition);
    [[nodiscard]] static std::optional<std::vector<std::uint32_t>> parameter_types(const SessionStatement& statement, std::string_view declarations);
    [[nodiscard]] std::string_view definition_of(std::string_view statement_name) const;
    std::optional<std::string> description_of_statement(std::string_view name) const;
    bool describe_statement_here(std::string_view name);
    [[nodiscard]] std::string row_description_of(const SessionStatement& statement, const std::vector<std::uint16_t>& formats) const;
    [[nodiscard]] std::shared_ptr<const SessionStatement> session_statement(std::string_view statement_name) const;
    Result<void> plan_binding(const std::vector<ResolvedChange>& changes);
    void end_local_batch();
    void refuse_locally(const Error& error);
    void raise_in_batch(const Error& error, const std::string& reply = {});
    void raise_query(const Error& error, std::string_view if_valid = {});
    std::uint32_t remember_refusal(const Error& error);

    // session_portals.cpp
    [[nodiscard]] static bool ends_transaction(const SessionStatement& statement);
    std::optional<Step> replace_portal(std::string_view portal, bool is_known_statement);
    std::optional<Step> bind_session_statement(std::string_view portal, std::string_view statement, std::string_view rest);
    std::optional<Step> execute_session_statement(std::string_view body);
    std::optional<Step> execute_here(Portal& portal, std::uint32_t rows_max);
    void go_on_behind_end(char type);
    void note_savepoint_of_portals(const SessionStatement& statement);
    void run_again(std::string_view name, const Portal& portal);
    bool bind_on_server(std::string_view name, Portal& portal);
    std::optional<Step> describe_here(std::string_view body);
    void answer_in_turn(Request request, std::string text);
    bool close_locally(std::string_view body);
    [[nodiscard]] bool is_portal_of_session(std::string_view execute_body) const;

    // session_downlink.cpp
    bool on_reply(char type, std::string_view body, std::string_view whole);
    bool on_partial_reply(ServerConnection& server, std::string_view& input);
    void on_error_reply(const Expected& expected, std::string_view body, std::string_view whole);
    void on_ready();
    void undo(const Expected& expected, bool has_failed);
    void complete(const Expected& expected, char type);
    void say_simulated();
    void flush_to_client();
    void finish_transaction();
    [[nodiscard]] std::string with_client_names(std::string_view body, std::string_view whole) const;

    // session_dialect.cpp
    [[nodiscard]] const SessionDialect& spoken() const;
    [[nodiscard]] const SqlDialect& dialect() const { return spoken().dialect; }
    [[nodiscard]] bool speaks_alike(const ServerConnection& server) const;
    [[nodiscard]] bool can_spell(std::string_view utf8) const;
    [[nodiscard]] bool can_spell_named() const;
    [[nodiscard]] std::optional<Error> doubt_about(std::string_view sql, const StatementTraits& traits);
    [[nodiscard]] std::optional<Error> trouble_with_spelling(std::string_view statement_name);
    [[nodiscard]] bool has_unreadable_naming(const std::vector<ResolvedChange>& changes) const;
    void note_dialect();

    // session_inspection.cpp
    static Task<> inspect(std::shared_ptr<Session> self);
    [[nodiscard]] static Task<Result<QueryAnswer>> ask_undisturbed(ServerPtr server, std::string sql, Milliseconds quarantine_ms_max);
    Context adopt_inspection(const QueryAnswer& answer);
    [[nodiscard]] std::optional<Error> lost_tenant() const;
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
    Deadline read_deadline_;  // a message is half read
    Deadline statement_deadline_;
    Deadline transaction_deadline_;
    bool statement_timed_out_ = false;  // it was cancelled for that
    EndReason end_reason_ = EndReason::none;
    bool counted_login_ = false;
    bool counted_session_ = false;
    bool counted_address_ = false;
    bool draining_ = false;
    bool is_one_too_many_ = false;
    Rare<Error> safe_end_error_;  // why it is draining
    bool cancel_is_handled_ = false;
    ClientAddress client_address_;
    std::uint16_t protocol_minor_ = 0;  // agreed on with the client
    ReplicationMode replication_ = ReplicationMode::none;
    std::unique_ptr<ReplicationRelay> relay_;  // a replication connection: instead of leases
    std::string login_input_;  // bytes read ahead during the login

    // Who it is.
    Identity identity_;
    std::shared_ptr<const ScramKeys> learned_keys_;
    CancelKey cancel_key_;
    bool has_cancel_key_ = false;
    mutable Rare<User> stranger_;  // who has logged in and is no user of the catalog's: speaks for no tenant

    // Where it goes.
    std::string tenant_name_;           // for whom it speaks now; empty: no tenant
    TenantPtr tenant_;
    Access access_;
    TenantDesk* desk_ = nullptr;        // null: the home database
    TenantDesk* login_desk_ = nullptr;  // of the tenant that the login named: counts the session
    std::vector<TenantDesk*> visited_;  // of tenants that the open transaction has turned to, in the same database
    std::vector<Place> visits_;         // their places
    CatalogVersion route_version_;
    bool has_route_ = false;
    std::shared_ptr<Pool> pool_;
    std::shared_ptr<ClusterPlaces> places_;
    std::shared_ptr<PlaceShare> share_;
    std::shared_ptr<DatabasePlaces> database_places_;
    PlaceCaps place_caps_;
    Place place_;  // of the lease
    SteadyTime asked_at_{};  // while the pool's latency is watched: when what is owed now was first asked for
    PoolMode pool_mode_ = PoolMode::transaction;

    // The tenant in SQL.
    ScopedSettings named_;                             // what names tenants, as the session has set it
    HeldTransaction held_;                             // while there is no server connection
    std::size_t answered_ = 0;                         // statements of the Query that is being read: answered already
    Rare<std::pair<std::uint32_t, Error>> naming_in_doubt_;  // refused, unless PostgreSQL has something against it itself: by the refusal's tag
    Rare<Error> refused_held_;                         // why answer_held() has refused one, and what that would have changed
    std::vector<ResolvedChange> refused_changes_;
    // A naming was refused outside of a transaction: a client that takes no notice must not read on as whoever was named before.
    Rare<Error> refused_naming_;
    // What is set right behind a statement that changes who is named: a path that no setting brings with it, what RESET means for us.
    struct ToFollow {
        std::string name;
        std::string value;  // empty: the server's default
        bool is_local = false;
    };
    std::vector<ToFollow> to_follow_;
    Rare<std::string> path_of_reset_;                  // what RESET search_path was made to mean on this lease's server connection
    bool has_turned_ = false;                          // the open transaction, to another than its lease's tenant
    Rare<std::string> followed_path_;                  // what search_path was last made by it, in this transaction
    Rare<Error> misplaced_;                            // the open transaction's settings name nobody, but it runs at a tenant's: nothing is read so
    std::optional<ScopedSettings::Values> binding_;    // with what the statement sets that needs the server: decides whose lease it is
    bool route_is_stale_ = false;                      // named_ has changed since the route was found
    bool must_set_again_ = false;                      // the session has set something: the server is told, even if it seems to be so already
    bool set_in_passing_ = false;                      // so it was, in this lease
    ScopedSettings::Values setters_of_;                // and by these: made for what was set again last
    std::vector<Setter> setters_;
    bool saw_error_ = false;                           // in this transaction
    bool has_ended_ = false;                           // in this batch a transaction has ended already
    std::shared_ptr<const SessionStatement> ended_statement_;  // COMMIT or ROLLBACK in the extended protocol, the last that was run
    enum class Ended { by_itself, committed, rolled_back } ended_ = Ended::by_itself;  // the transaction block of this lease
    RareMap<std::unordered_map<std::string, Portal>> portals_;  // of statements about the session
    std::shared_ptr<const SessionStatement> unnamed_session_;  // the unnamed statement, if it is one

    // Its state, wherever it goes.
    OwnSettings own_;
    SessionContextPtr own_state_;           // role, search_path, settings as the session has them now; null: there was no route yet
    SessionContextPtr startup_state_;       // what DISCARD ALL and RESET ALL go back to; likewise
    SessionContextPtr context_;             // equal to own_state_, shared with the server connection that has it
    StatementNames names_;
    std::string statement_owner_;
    std::string statement_owner_tenant_;
    std::string statement_owner_path_;
    std::string unnamed_definition_;  // Parse body after the name
    std::shared_ptr<const StatementTraits> unnamed_traits_;
    std::string unnamed_spelling_;    // its dialect's key
    std::uint64_t unnamed_serial_ = 0;  // 0: there is no unnamed statement
    std::uint64_t last_serial_ = 0;
    std::uint64_t unnamed_state_ = 0;  // another one after each change, the one before when that is undone
    mutable SessionDialect spoken_;   // see spoken()
    UnnamedTold unnamed_told_;
    UnnamedReuse reuse_;
    StatementNumber replayed_ = 0;
    bool creates_objects_ = false;  // what was sent may have made some: texts may mean something else
    bool unnamed_portal_is_of_unnamed_ = false;  // it was bound from the unnamed statement that there is now
    std::string portal_of_unnamed_;              // and this one, the last of such portals with a name
    std::shared_ptr<const Settings> client_reported_;  // what the client was told by ParameterStatus
    std::set<std::string> custom_settings_;            // names with a dot that it has set
    std::set<std::string> pins_;
    RareMap<std::unordered_map<std::string, std::string>> types_seen_;  // tenant whose own types the client has seen OIDs of; cluster/database

    // The lease.
    ServerPtr server_;
    ReplyQueue replies_;
    // Its nodes come from what the thread has used before.
    using OperationNodes = asio::recycling_allocator<std::pair<const std::uint32_t, Operation>>;
    std::unordered_map<std::uint32_t, Operation, std::hash<std::uint32_t>, std::equal_to<>, OperationNodes> operations_;
    std::uint32_t last_tag_ = 0;
    std::string parameters_described_;  // the first half of a statement's description
    ParseSerial asked_ = 0;             // our own Describe of what this Parse has made is under way
    bool state_is_suspect_ = false;  // this transaction ran something that may change the session's state
    bool context_was_reset_ = false;  // DISCARD ALL ran on the server
    bool inspecting_ = false;
    bool goes_back_ = false;    // RESET and its like ran: what became a default is set to the session's beginning again
    std::pair<std::string, StatementNumber> deallocating_;  // DEALLOCATE of it is under way in the extended protocol
    bool has_barrier_ = false;  // what was sent may change names or settings: nothing more is sent before it is answered
    bool terminating_ = false;  // Terminate came: the session ends when everything owed has been delivered
    std::uint32_t batch_ = 0;   // Syncs sent in this lease
    RareMap<std::unordered_map<std::string, std::uint32_t>> unsettled_names_;  // a Parse or Close of it is under way, since which batch
    RareMap<std::unordered_map<StatementNumber, std::uint32_t>> unsettled_statements_;  // the same, as the server knows them
    struct UnnamedChange {
        std::uint32_t tag;
        std::uint32_t batch;
    };
    std::optional<UnnamedChange> unnamed_change_;  // the same for the unnamed statement
    bool dialect_in_doubt_ = false;         // what was sent in this batch may change it
    bool reading_in_doubt_ = false;         // something was set: how values are read isn't certain
    bool has_dependent_in_flight_ = false;  // a text that depends on it was sent behind others that may change it
    bool resetting_ = false;  // DISCARD ALL or RESET ALL waits for a server connection
    bool obtaining_ = false;  // the lease has begun, and its context is being made
    bool cancel_asked_ = false;  // meanwhile
    bool cancel_sent_ = false;   // in this lease
    struct Ahead {
        bool is_due = false;           // the lease's first bytes have a prologue in front of them
        bool is_this_turn = false;     // this turn of the uplink has put it there
        bool may_repeat = false;       // nothing else was said or done in the lease
        bool is_next_awaited = false;  // the last one has failed
        bool has_synced = false;       // what was sent behind it has had its Sync
        std::string asked;             // behind it, by the client
        std::string again;             // and is to be asked again
    } ahead_;
    bool parameters_untold_ = false;  // the server says only at the end of the batch what it has made of them
    bool lease_ends_after_flush_ = false;
    bool server_said_fatal_ = false;
    PoolWaiter* current_wait_ = nullptr;
    bool watching_client_ = false;
    Event wake_;  // the uplink waits for the downlink
    bool uplink_waits_ = false;

    // The message that is being read from the client.
    std::string_view turn_input_;  // of the uplink's turn: from the message on that began the lease
    Partial partial_ = Partial::none;
    std::string gathered_;
    MemoryShare gathered_share_;
    MemoryShare operations_share_;
    std::size_t operations_counted_ = 0;
    MemoryShare own_share_;      // own_, and what is made of it
    MemoryShare unsent_share_;   // what the server connection couldn't take yet
    MemoryShare unnamed_share_;  // unnamed_definition_
    std::string reply_;            // a reply that came in pieces
    bool reply_streams_ = false;   // its pieces are passed on as they come
    bool reply_forwarded_ = false;
    bool has_said_ = false;      // the worker's buffer has something of this session's own
    bool skip_to_sync_ = false;  // an extended request failed without a server: skip as PostgreSQL does
};

}  // namespace pgporter
