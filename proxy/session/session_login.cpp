// From accept to the first ReadyForQuery. Nothing of what a client says is trusted before it has authenticated, every packet is
// bounded, and until then a stranger can't tell an unknown user, an unknown tenant and a wrong password apart.
#include <algorithm>
#include <boost/asio/buffer.hpp>

#include "base/log.hpp"
#include "proxy/net/peer_user.hpp"
#include "proxy/session/session.hpp"
#include "proxy/session/tenant_context.hpp"
#include "proxy/wire/error_response.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/reader.hpp"

namespace pgporter {
namespace {

// The user whose password is asked for when the startup parameters contradict each other: told only after the login.
std::string login_user(const StartupMessage& message, const Snapshot& snapshot, bool user_suffix) {
    std::string user;
    for (const auto& [name, value] : message.parameters) {
        if (name == "user") user = value;
    }
    const auto dot = user.rfind('.');
    if (user_suffix && snapshot.find_user(user) == nullptr && dot != std::string::npos) user.resize(dot);
    return user;
}

}  // namespace

Task<bool> Session::refuse_login(EndReason reason, Error error) {
    const std::string text = client_error::to_message(error, "FATAL");
    client_out_.write(client_, text);
    [[maybe_unused]] const bool flushed = co_await client_out_.flush(client_);
    if (client_.is_open()) {  // unread bytes would make the kernel answer with a reset, which takes the error from the client again
        char ignored[4096];
        [[maybe_unused]] const IoResult result = client_.read_some(ignored, sizeof ignored);
    }
    log::info("login_refused", {{"session", std::to_string(id_.value)},
                                {"user", identity_.user},
                                {"tenant", identity_.tenant},
                                {"client", client_address_.text()},
                                {"sqlstate", error.sqlstate},
                                {"reason", error.message}});
    end(reason, nullptr);
    co_return false;
}

// The body of one startup packet; nothing when the client went away or the packet is unacceptable (then the session has ended).
Task<std::optional<std::string>> Session::read_startup_packet() {
    const std::size_t bytes_max = worker_.config().limits.startup_packet_bytes_max;
    while (end_reason_ == EndReason::none) {
        if (login_input_.size() >= 4) {
            const std::uint32_t length = length_field(login_input_);
            if (length < 8 || length > bytes_max) {
                end(EndReason::protocol_violation, nullptr);  // without a word, as PostgreSQL does
                co_return std::nullopt;
            }
            if (login_input_.size() >= length) {
                std::string body = login_input_.substr(4, length - 4);
                login_input_.erase(0, length);
                co_return body;
            }
        }
        char bytes[2048];
        const IoResult result = client_.read_some(bytes, sizeof bytes);
        if (result.status == IoStatus::ok) {
            login_input_.append(bytes, result.bytes);
            continue;
        }
        const bool ready = co_await client_.ready_for(result.status);
        if (!ready) break;
    }
    // A probe that says nothing, or only half a packet, is no event worth a log line.
    end(login_input_.empty() ? EndReason::client_terminated : EndReason::client_lost, nullptr);
    co_return std::nullopt;
}

Task<bool> Session::read_startup(StartupMessage& message) {
    const bool opened = co_await accept_direct_tls();
    if (!opened) co_return false;
    EncryptionAsked asked;
    while (true) {
        std::optional<std::string> body = co_await read_startup_packet();
        if (!body) co_return false;
        Result<StartupPacket> packet = parse_startup_packet(*body);
        if (!packet) {
            const bool refused = co_await refuse_login(EndReason::protocol_violation, packet.error());
            co_return refused;
        }
        const bool is_tls_request = std::holds_alternative<SslRequest>(*packet);
        if (is_tls_request || std::holds_alternative<GssEncRequest>(*packet)) {
            const bool answered = co_await answer_encryption_request(is_tls_request, asked);
            if (!answered) co_return false;
            continue;
        }
        if (const auto* cancel = std::get_if<CancelRequest>(&*packet)) {
            co_await handle_cancel_packet(*cancel);
            co_return false;
        }
        message = std::move(std::get<StartupMessage>(*packet));
        co_return true;
    }
}

// One message with type before the login is complete: small, and of the password kind.
Task<std::optional<std::string>> Session::read_login_message() {
    const std::size_t bytes_max = worker_.config().limits.auth_message_bytes_max;
    while (end_reason_ == EndReason::none) {
        if (login_input_.size() >= 5) {
            const std::uint32_t length = length_field(std::string_view(login_input_).substr(1));
            if (login_input_[0] != 'p' || length < 4 || length > bytes_max) {
                [[maybe_unused]] const bool refused = co_await refuse_login(
                    EndReason::protocol_violation, client_error::protocol_violation("expected a password message of sensible size"));
                co_return std::nullopt;
            }
            if (login_input_.size() >= length + 1) {
                std::string body = login_input_.substr(5, length - 4);
                login_input_.erase(0, length + 1);
                co_return body;
            }
        }
        char bytes[2048];
        const IoResult result = client_.read_some(bytes, sizeof bytes);
        if (result.status == IoStatus::ok) {
            login_input_.append(bytes, result.bytes);
            continue;
        }
        const bool ready = co_await client_.ready_for(result.status);
        if (!ready) break;
    }
    end(EndReason::client_lost, nullptr);
    co_return std::nullopt;
}

Task<Result<std::string>> Session::query_verifier(std::string user) {
    const AuthQueryConfig& settings = *worker_.config().auth_query;
    if (const auto known = worker_.shared().verifiers.find(user)) co_return *known;
    std::shared_ptr<Pool> pool = worker_.pool_for(settings.cluster, settings.database, settings.user, nullptr);
    if (!pool) co_return fail(ErrorKind::internal, "auth_query names a cluster that the catalog doesn't have");
    ServerPtr server = pool->try_take(id_, tenant_mark({}));
    if (!server) {
        PoolWaiter waiter(worker_.thread().executor());
        pool->wait(waiter);
        Result<void> waited = co_await wait(waiter, worker_.config().limits.wait_ms_max);
        pool->leave(waiter);
        server = waiter.server;
        if (!waited) {
            if (server) pool->give_back(server);
            co_return waited.error();
        }
    }
    if (!server) co_return fail(ErrorKind::unavailable, "no server connection for the auth query");
    // The user's name is a bind parameter; nothing else of the client's reaches this connection.
    std::vector<std::optional<std::string>> parameters{user};
    Result<QueryAnswer> answer =
        co_await server->query_params(settings.query, std::move(parameters), worker_.config().limits.prologue_ms_max);
    pool->give_back(server);
    if (!answer) co_return answer.error();
    if (answer->rows.size() != 1 || answer->rows[0].size() < 2 || !answer->rows[0][0] || *answer->rows[0][0] != user ||
        !answer->rows[0][1]) {
        co_return std::string();  // unknown, or without a password
    }
    worker_.shared().verifiers.put(user, *answer->rows[0][1], settings.cache_ms);
    co_return *answer->rows[0][1];
}

Task<Result<std::string>> Session::find_verifier(std::string user) {
    const User* entry = worker_.snapshot()->find_user(user);
    if (entry != nullptr && !entry->scram_verifier.empty()) co_return entry->scram_verifier;
    if (!worker_.config().auth_query) co_return std::string();
    Result<std::string> asked = co_await query_verifier(std::move(user));
    co_return asked;
}

Task<Result<void>> Session::authenticate(std::string user) {
    const ClientAuth auth = listener_->config.auth;
    Result<void> proven = check_client_certificate(user);
    if (proven && auth == ClientAuth::peer && peer_user(client_.descriptor()) != user) proven = client_error::peer_mismatch(user);
    if (proven && (auth == ClientAuth::cert || auth == ClientAuth::peer)) proven = co_await find_proven_user(user);
    if (!proven) co_return proven.error();
    if (auth != ClientAuth::scram) {
        client_out_.write(client_, message::authentication_ok());
        co_return Result<void>{};
    }
    Result<std::string> text = co_await find_verifier(user);
    if (!text) {
        log::warning("auth_query_failed", {{"user", user}, {"reason", text.error().message}});
        co_return fail(ErrorKind::unavailable, "the login can't be checked now", {}, "try again", "57P03");
    }
    Result<ScramVerifier> verifier = parse_scram_verifier(*text);
    const bool is_mock = !verifier;
    ScramChannel channel{client_.server_end_point()};
    std::string offer = message::authentication_sasl(scram_mechanisms(channel));
    bool sent = co_await client_.write_all(std::move(offer));
    if (!sent) co_return fail(ErrorKind::unavailable, "the client has gone");
    std::optional<std::string> initial = co_await read_login_message();
    if (!initial) co_return fail(ErrorKind::unavailable, "the client has gone");
    const auto response = parse_sasl_initial_response(*initial);
    if (!response || !response->data) co_return client_error::protocol_violation("malformed SCRAM message");
    channel.is_plus = response->mechanism == scram_plus_mechanism && !channel.server_end_point.empty();
    if (!channel.is_plus && response->mechanism != scram_mechanism) {
        co_return client_error::protocol_violation("client selected an invalid SASL authentication mechanism");
    }
    ScramServer scram(is_mock ? mock_verifier(worker_.shared().mock_secret, user) : std::move(*verifier), is_mock, random_nonce(),
                      std::move(channel));
    Result<std::string> server_first = scram.on_client_first(*response->data);
    if (!server_first) co_return server_first.error();
    std::string challenge = message::authentication_sasl_continue(*server_first);
    sent = co_await client_.write_all(std::move(challenge));
    if (!sent) co_return fail(ErrorKind::unavailable, "the client has gone");
    std::optional<std::string> final_message = co_await read_login_message();
    if (!final_message) co_return fail(ErrorKind::unavailable, "the client has gone");
    // Asked again: many logins may have begun before the first of them failed.
    if (!may_try_login(user)) co_return client_error::too_many_failed_logins(user);
    Result<std::string> server_final = scram.on_client_final(*final_message);
    if (!server_final) {
        worker_.shared().verifiers.forget(user);
        if (server_final.error().sqlstate == "28P01") co_return client_error::bad_password(user);
        co_return server_final.error();
    }
    learned_keys_ = std::make_shared<const ScramKeys>(scram.learned());
    client_out_.write(client_, message::authentication_sasl_final(*server_final) + message::authentication_ok());
    co_return Result<void>{};
}

Result<void> Session::resolve_identity(const StartupMessage& message, LoginRequest& login, Result<Identity>& identity) const {
    login.parameters = message.parameters;
    login.server_name = client_.server_name();
    for (const auto& [name, value] : message.parameters) {
        if (name == "options") {
            Result<std::vector<std::pair<std::string, std::string>>> options = parse_options_parameter(value);
            if (!options) return options.error();
            login.option_settings = std::move(*options);
        }
    }
    const Result<ReplicationMode> replication = replication_mode(message);
    if (!replication) return replication.error();
    if (*replication != ReplicationMode::none && !listener_->config.replication) return client_error::no_replication();
    if (*replication == ReplicationMode::physical) {
        // No database is entered; libpq's programs name one that isn't there.
        std::erase_if(login.parameters, [](const auto& parameter) { return parameter.first == "database" && parameter.second == "replication"; });
    }
    login.speaker = user_entry(pgporter::login_user(worker_.config().identify, *worker_.snapshot(), login));
    identity = identify(worker_.config().identify, *worker_.snapshot(), login);
    return {};
}

Result<void> Session::admit() {
    DataPathShared& shared = worker_.shared();
    if (shared.draining) return client_error::shutting_down();
    if (shared.sessions.load() >= worker_.config().limits.sessions_max) return client_error::too_many_sessions();
    if (!identity_.tenant.empty()) {
        TenantDesk& desk = worker_.desk(identity_.tenant);
        const std::uint32_t before = desk.usage().sessions.fetch_add(1);
        if (tenant_->sessions_max != 0 && before >= tenant_->sessions_max) {
            desk.usage().sessions.fetch_sub(1);
            return client_error::too_many_tenant_sessions(identity_.tenant);
        }
        login_desk_ = &desk;
        desk.counters().sessions.add(1);
        pool_mode_ = tenant_->pool_mode;
    }
    ++shared.sessions;
    shared.session_metrics.sessions.add(1);
    counted_session_ = true;
    leave_login();
    return {};
}

void Session::note_startup_settings() {
    for (const auto& [name, value] : identity_.settings) {
        if (name.find('.') != std::string::npos) custom_settings_.insert(name);
    }
}

Task<Result<void>> Session::welcome() {
    // Plain wishes need no server: what a fresh connection reports is known, and the first transaction proves the rest.
    const std::shared_ptr<const Settings> fresh = pool_->fresh_parameters();
    const bool asks_for_nothing = std::all_of(identity_.settings.begin(), identity_.settings.end(), [](const auto& setting) {
        return same_name(setting.first, "application_name") || (same_name(setting.first, "client_encoding") && is_utf8_name(setting.second));
    });
    const bool plain = asks_for_nothing && (!tenant_ || tenant_->settings.empty());
    if (fresh && plain && pool_mode_ == PoolMode::transaction) {
        Settings reported = *fresh;
        put_setting(reported, "application_name", *find_setting(own_state_->settings, "application_name"));
        client_reported_ = worker_.reports().shared(std::move(reported));
    } else {
        Result<void> obtained = co_await obtain_server();
        if (!obtained) co_return obtained.error();
        client_reported_ = server_->reported();
    }
    std::string text;
    for (const auto& [name, value] : *client_reported_) text += message::parameter_status(name, value);
    cancel_key_ = worker_.shared().cancels.add({worker_.index(), id_}, protocol_minor_);
    has_cancel_key_ = true;
    text += message::backend_key_data(cancel_key_.pid, cancel_key_.secret);
    text += message::ready_for_query('I');
    client_out_.write(client_, text);
    if (server_) {
        if (pool_mode_ == PoolMode::session) {
            server_->require_discard_all();  // for whoever comes next: the client's own statement names are there
            set_pins({"session_pooling"});
        } else {
            end_lease();
        }
    }
    co_return Result<void>{};
}

Task<bool> Session::log_in() {
    const bool entered = co_await enter();
    if (!entered) co_return false;
    StartupMessage message;
    const bool started = co_await read_startup(message);
    if (!started) co_return false;
    if (is_one_too_many_) {
        const bool refused = co_await refuse_login(EndReason::limit, client_error::out_of_descriptors());
        co_return refused;
    }
    if (listener_->config.tls == ClientTls::require && !client_.is_tls()) {
        const bool refused = co_await refuse_login(EndReason::login_failed, client_error::tls_required());
        co_return refused;
    }
    if (!worker_.snapshot()) {
        const bool refused = co_await refuse_login(EndReason::login_failed, client_error::not_ready());
        co_return refused;
    }
    const ProtocolChoice protocol = choose_protocol(message);
    protocol_minor_ = protocol.minor;
    if (protocol.is_told) client_out_.write(client_, build_negotiate_protocol_version(protocol.minor, protocol.unknown_options));
    LoginRequest login;
    Result<Identity> identity = Identity{};
    Result<void> understood = resolve_identity(message, login, identity);
    identity_.user = identity ? identity->user : login_user(message, *worker_.snapshot(), worker_.config().identify.user_suffix);
    if (!understood) {
        const bool refused = co_await refuse_login(EndReason::login_failed, understood.error());
        co_return refused;
    }
    Result<void> authenticated = co_await authenticate_throttled(identity_.user);
    if (end_reason_ != EndReason::none) co_return false;
    if (!authenticated) {
        const bool refused = co_await refuse_login(EndReason::login_failed, authenticated.error());
        co_return refused;
    }
    // From here on the client is who it says, and may be told what is wrong.
    Result<void> admitted = identity ? Result<void>{} : Result<void>(identity.error());
    if (admitted) {
        identity_ = std::move(*identity);
        admitted = refresh_route();
        if (admitted) admitted = check_address();
        if (admitted) admitted = admit();
    }
    if (!admitted) {
        const bool refused = co_await refuse_login(EndReason::login_failed, admitted.error());
        co_return refused;
    }
    note_startup_settings();
    login_deadline_.disarm();  // the wait for a server connection has bounds of its own
    replication_ = *replication_mode(message);
    Result<void> welcomed{};
    if (replication_ != ReplicationMode::none) {
        welcomed = co_await begin_replication();
    } else {
        welcomed = co_await welcome();
    }
    if (end_reason_ != EndReason::none) co_return false;
    if (!welcomed) {
        const bool refused = co_await refuse_login(EndReason::server_unavailable, welcomed.error());
        co_return refused;
    }
    co_await flush_client();
    co_return end_reason_ == EndReason::none;
}

}  // namespace pgporter
