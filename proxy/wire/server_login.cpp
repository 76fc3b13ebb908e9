#include "proxy/wire/server_login.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "proxy/wire/auth_crypto.hpp"
#include "proxy/wire/message_type.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/startup.hpp"

namespace pgporter {
namespace {

// A server sends about twenty messages until it is ready; one that sends this many wants to keep us busy.
constexpr std::uint32_t login_messages_max = 1000;

// The codes of AuthenticationRequest that we know.
enum class Request : std::uint32_t {
    accepted = 0,
    cleartext = 3,
    md5 = 5,
    sasl = 10,
    sasl_continue = 11,
    sasl_final = 12
};

Error violation(std::string message, std::string detail = {}) {
    return fail(ErrorKind::internal, std::move(message), std::move(detail), {}, "08P01");
}

Error truncated(std::string_view what) {
    return violation("malformed " + std::string(what) + " from the server during login");
}

Error no_password() {
    return fail(ErrorKind::unauthenticated, "the server asks for a password, but none is known for this login", {},
                "give the user an entry in server_logins, or let clients log in by SCRAM with the server's own verifier "
                "(who logs in by certificate teaches no key)",
                "28000");
}

std::string_view value_of(const std::vector<std::pair<std::string, std::string>>& parameters, std::string_view name) {
    const auto found =
        std::find_if(parameters.begin(), parameters.end(), [&](const auto& p) { return p.first == name; });
    return found == parameters.end() ? std::string_view{} : std::string_view(found->second);
}

ErrorKind kind_of(std::string_view sqlstate) {
    if (sqlstate.starts_with("28")) return ErrorKind::unauthenticated;
    if (sqlstate == "3D000") return ErrorKind::not_found;
    if (sqlstate == "42501") return ErrorKind::forbidden;
    if (sqlstate == "53300") return ErrorKind::limit;
    if (sqlstate.starts_with("22") || sqlstate.starts_with("42")) return ErrorKind::invalid;
    return ErrorKind::unavailable;
}

}  // namespace

std::optional<ServerLogin::Step> ServerLogin::transition(Step from, Event event) {
    if (event == Event::failed) return from == Step::ready ? std::nullopt : std::optional(Step::failed);
    switch (from) {
        case Step::start:
            return event == Event::started ? std::optional(Step::waiting_request) : std::nullopt;
        case Step::waiting_request:
            if (event == Event::sasl_offered) return Step::sasl_first_sent;
            if (event == Event::password_asked) return Step::password_sent;
            return event == Event::accepted ? std::optional(Step::waiting_ready) : std::nullopt;
        case Step::sasl_first_sent:
            return event == Event::sasl_continued ? std::optional(Step::sasl_final_sent) : std::nullopt;
        case Step::sasl_final_sent:
            return event == Event::sasl_proven ? std::optional(Step::sasl_proven) : std::nullopt;
        case Step::sasl_proven:
        case Step::password_sent:
            return event == Event::accepted ? std::optional(Step::waiting_ready) : std::nullopt;
        case Step::waiting_ready:
            return event == Event::ready ? std::optional(Step::ready) : std::nullopt;
        case Step::ready:
        case Step::failed:
            return std::nullopt;
    }
    PP_ASSERT(false);
}

ServerLogin::State ServerLogin::state_of(Step step) {
    switch (step) {
        case Step::start:
            return State::start;
        case Step::waiting_request:
        case Step::sasl_first_sent:
        case Step::sasl_final_sent:
        case Step::sasl_proven:
        case Step::password_sent:
            return State::authenticating;
        case Step::waiting_ready:
            return State::waiting_ready;
        case Step::ready:
            return State::ready;
        case Step::failed:
            return State::failed;
    }
    PP_ASSERT(false);
}

ServerLogin::ServerLogin(std::vector<std::pair<std::string, std::string>> startup_parameters,
                         ServerCredential credential, bool encrypted_or_local, std::string server_end_point)
    : startup_parameters_(std::move(startup_parameters)),
      credential_(std::move(credential)),
      encrypted_or_local_(encrypted_or_local),
      server_end_point_(std::move(server_end_point)) {}

std::string ServerLogin::start() {
    const auto moved = move(Event::started, "start");
    PP_ASSERT(moved.has_value());
    return build_startup_message(startup_parameters_);
}

Result<void> ServerLogin::move(Event event, std::string_view what) {
    const auto to = transition(step_, event);
    if (!to) return violation("unexpected message from the server during login", "out of order: " + std::string(what));
    step_ = *to;
    return {};
}

Result<std::string> ServerLogin::on_message(char type, std::string_view body) {
    const State before = state();
    PP_ASSERT(before != State::start);
    if (before == State::ready || before == State::failed) return violation("the login to the server is over");
    auto answer = ++messages_seen_ > login_messages_max
                      ? Result<std::string>(violation("too many messages from the server during login"))
                      : dispatch(type, body);
    if (!answer && state() != State::failed) {
        const auto moved = move(Event::failed, "failure");
        PP_ASSERT(moved.has_value());
    }
    return answer;
}

Result<std::string> ServerLogin::dispatch(char type, std::string_view body) {
    switch (static_cast<BackendType>(type)) {
        case BackendType::authentication:
            return on_authentication(body);
        case BackendType::error_response:
            return on_error(body);
        case BackendType::notice_response:
            return std::string{};  // a login function or an extension has something to say
        case BackendType::parameter_status:
            return on_parameter_status(body);
        case BackendType::backend_key_data:
            return on_backend_key_data(body);
        case BackendType::ready_for_query:
            return on_ready(body);
        case BackendType::negotiate_protocol_version:
            return on_negotiate(body);
        default:
            return violation("unexpected message from the server during login",
                             "message type " + std::to_string(static_cast<unsigned char>(type)));
    }
}

Result<std::string> ServerLogin::on_authentication(std::string_view body) {
    Reader reader(body);
    const auto code = reader.u32();
    if (!code) return truncated("AuthenticationRequest");
    switch (static_cast<Request>(*code)) {
        case Request::accepted:
            if (!reader.empty()) return truncated("AuthenticationOk");
            PP_TRY(move(Event::accepted, "AuthenticationOk"));
            if (scram_) learned_keys_ = std::make_shared<const ScramKeys>(scram_->keys());
            return std::string{};
        case Request::cleartext:
            return on_cleartext();
        case Request::md5:
            return on_md5(reader.rest());
        case Request::sasl:
            return on_sasl_offer(reader.rest());
        case Request::sasl_continue:
            return on_sasl_continue(reader.rest());
        case Request::sasl_final:
            return on_sasl_final(reader.rest());
    }
    return fail(ErrorKind::unauthenticated, "the server asks for an authentication method that is not supported",
                "method number " + std::to_string(*code),
                "use scram-sha-256, md5, cert or trust in the server's pg_hba.conf", "0A000");
}

Result<std::string> ServerLogin::on_sasl_offer(std::string_view mechanisms) {
    Reader reader(mechanisms);
    bool offered = false;
    ScramChannel channel{server_end_point_, false};
    auto mechanism = reader.cstring();
    for (; mechanism && !mechanism->empty(); mechanism = reader.cstring()) {
        offered |= *mechanism == scram_mechanism;
        // An offer on a connection that can't be bound says that somebody ends the server's TLS on the way: not our choice to make.
        channel.is_plus |= *mechanism == scram_plus_mechanism && !server_end_point_.empty();
    }
    if (!mechanism || !reader.empty()) return truncated("AuthenticationSASL");
    PP_TRY(move(Event::sasl_offered, "AuthenticationSASL"));
    if (!offered && !channel.is_plus) {
        return fail(ErrorKind::unauthenticated, "the server offers no SASL mechanism that is supported", {},
                    "allow SCRAM-SHA-256 on the server", "0A000");
    }
    if (!credential_.password && !credential_.scram_keys) return no_password();
    const std::string_view chosen = channel.is_plus ? scram_plus_mechanism : scram_mechanism;
    scram_.emplace(credential_.password, credential_.scram_keys, random_nonce(), std::move(channel));
    return message::sasl_initial_response(chosen, scram_->client_first());
}

Result<std::string> ServerLogin::on_sasl_continue(std::string_view data) {
    PP_TRY(move(Event::sasl_continued, "AuthenticationSASLContinue"));
    auto client_final = scram_->on_server_first(data);
    if (!client_final) return client_final;
    return message::sasl_response(*client_final);
}

Result<std::string> ServerLogin::on_sasl_final(std::string_view data) {
    PP_TRY(move(Event::sasl_proven, "AuthenticationSASLFinal"));
    PP_TRY(scram_->on_server_final(data));
    return std::string{};
}

Result<std::string> ServerLogin::on_cleartext() {
    PP_TRY(move(Event::password_asked, "AuthenticationCleartextPassword"));
    if (!encrypted_or_local_) {
        return fail(ErrorKind::forbidden,
                    "the server asks for the password in clear text over an unencrypted connection", {},
                    "use TLS to the server, or scram-sha-256 in its pg_hba.conf", "28000");
    }
    if (!credential_.password) return no_password();
    return message::password_message(credential_.password->reveal());
}

Result<std::string> ServerLogin::on_md5(std::string_view salt) {
    if (salt.size() != 4) return truncated("AuthenticationMD5Password");
    PP_TRY(move(Event::password_asked, "AuthenticationMD5Password"));
    if (!credential_.password) return no_password();
    const std::string_view user = value_of(startup_parameters_, "user");
    return message::password_message(md5_response(user, credential_.password->reveal(), salt));
}

Result<std::string> ServerLogin::on_error(std::string_view body) {
    server_error_ = parse_error(body);
    const std::string& text = server_error_->message;
    return fail(kind_of(server_error_->sqlstate), text.empty() ? "the server refused the login without a reason" : text,
                server_error_->detail, server_error_->hint, server_error_->sqlstate);
}

Result<std::string> ServerLogin::on_parameter_status(std::string_view body) {
    if (step_ != Step::waiting_ready)
        return violation("unexpected message from the server during login", "early ParameterStatus");
    const auto parameter = parse_parameter_status(body);
    if (!parameter) return truncated("ParameterStatus");
    const auto known = std::find_if(parameters_.begin(), parameters_.end(),
                                    [&](const auto& p) { return p.first == parameter->first; });
    if (known == parameters_.end()) {
        parameters_.emplace_back(parameter->first, parameter->second);
    } else {
        known->second = parameter->second;
    }
    return std::string{};
}

Result<std::string> ServerLogin::on_backend_key_data(std::string_view body) {
    if (step_ != Step::waiting_ready)
        return violation("unexpected message from the server during login", "early BackendKeyData");
    const auto data = parse_backend_key_data(body);
    if (!data) return truncated("BackendKeyData");
    pid_ = data->pid;
    cancel_key_ = data->key;
    return std::string{};
}

Result<std::string> ServerLogin::on_ready(std::string_view body) {
    // Nothing ran yet: any other status than idle is not ours to take over.
    if (body != "I") return truncated("ReadyForQuery");
    PP_TRY(move(Event::ready, "ReadyForQuery"));
    return std::string{};
}

// We ask for 3.0 and for no option, so a server has nothing to negotiate; one that says so anyway may, once, before it
// asks for a password. The options it doesn't know weren't ours.
Result<std::string> ServerLogin::on_negotiate(std::string_view body) {
    if (step_ != Step::waiting_request || negotiated_) {
        return violation("unexpected message from the server during login", "out of order: NegotiateProtocolVersion");
    }
    negotiated_ = true;
    Reader reader(body);
    const auto newest = reader.u32();
    auto count = newest ? reader.u32() : std::nullopt;
    if (!count) return truncated("NegotiateProtocolVersion");
    for (; *count > 0; --*count) {
        if (!reader.cstring()) return truncated("NegotiateProtocolVersion");
    }
    return reader.empty() ? Result<std::string>(std::string{})
                          : Result<std::string>(truncated("NegotiateProtocolVersion"));
}

}  // namespace pgporter
