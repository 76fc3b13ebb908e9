// ServerLogin: our login to a PostgreSQL server, after any TLS negotiation, as a state machine without I/O. Owned by
// the attempt to open one server connection, on its thread. It keeps no clock: whoever drives it ends it when it takes
// too long.
//
// Usage: send start(); then give each whole backend message to on_message() and send what it returns, until state() is
// ready or failed.
//
//   step \ event      started          sasl_offered    sasl_continued   sasl_proven  password_asked  accepted ready
//   start             waiting_request  -               -                -            -               -              -
//   waiting_request   -                sasl_first_sent -                -            password_sent   waiting_ready  -
//   sasl_first_sent   -                -               sasl_final_sent  -            -               -              -
//   sasl_final_sent   -                -               -                sasl_proven  -               -              -
//   sasl_proven       -                -               -                -            -               waiting_ready  -
//   password_sent     -                -               -                -            -               waiting_ready  -
//   waiting_ready     -                -               -                -            -               - ready ready,
//   failed     -                -               -                -            -               -              -
// Event `failed` leads every step but ready to failed. "-" is a protocol violation: note that a server that asked for
// SCRAM can't accept us without having proven that it knows the verifier.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "proxy/wire/error_response.hpp"
#include "proxy/wire/scram.hpp"

namespace pgporter {

// How we prove ourselves: either, both or none (trust, certificate, peer). Keys are preferred where they fit: they cost
// no derivation.
struct ServerCredential {
    std::optional<Secret> password;
    std::shared_ptr<const ScramKeys> scram_keys;
};

class ServerLogin {
  public:
    enum class State { start, authenticating, waiting_ready, ready, failed };

    enum class Step : std::uint8_t {
        start,
        waiting_request,
        sasl_first_sent,
        sasl_final_sent,
        sasl_proven,
        password_sent,
        waiting_ready,
        ready,
        failed
    };
    enum class Event : std::uint8_t {
        started,
        sasl_offered,
        sasl_continued,
        sasl_proven,
        password_asked,
        accepted,
        ready,
        failed
    };
    // The table above; nullopt where it has "-".
    [[nodiscard]] static std::optional<Step> transition(Step from, Event event);
    [[nodiscard]] static State state_of(Step step);

    // `encrypted_or_local`: the connection is TLS or a Unix socket; a password in clear text is sent over nothing else.
    // `server_end_point`: the hash of the server's certificate, for SCRAM-SHA-256-PLUS; empty: no TLS, or not defined.
    ServerLogin(std::vector<std::pair<std::string, std::string>> startup_parameters, ServerCredential credential,
                bool encrypted_or_local, std::string server_end_point = {});

    [[nodiscard]] std::string start();  // bytes to send; once
    // One whole backend message; returns bytes to send (may be empty). An error is final.
    [[nodiscard]] Result<std::string> on_message(char type, std::string_view body);

    [[nodiscard]] State state() const { return state_of(step_); }
    // What the server reported, in its order; a name it reported twice is there once, with its last value.
    [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& parameters() const { return parameters_; }
    [[nodiscard]] std::uint32_t pid() const { return pid_; }
    [[nodiscard]] const std::string& cancel_key() const { return cancel_key_; }
    // The server's own ErrorResponse, if that is what failed.
    [[nodiscard]] const std::optional<ServerError>& server_error() const { return server_error_; }
    // The keys that this login used, if it was by SCRAM and succeeded: given to the next login they save its key
    // derivation.
    [[nodiscard]] std::shared_ptr<const ScramKeys> scram_keys() const { return learned_keys_; }

  private:
    Result<std::string> dispatch(char type, std::string_view body);
    Result<std::string> on_authentication(std::string_view body);
    Result<std::string> on_sasl_offer(std::string_view mechanisms);
    Result<std::string> on_sasl_continue(std::string_view data);
    Result<std::string> on_sasl_final(std::string_view data);
    Result<std::string> on_cleartext();
    Result<std::string> on_md5(std::string_view salt);
    Result<std::string> on_error(std::string_view body);
    Result<std::string> on_parameter_status(std::string_view body);
    Result<std::string> on_backend_key_data(std::string_view body);
    Result<std::string> on_ready(std::string_view body);
    Result<std::string> on_negotiate(std::string_view body);
    Result<void> move(Event event, std::string_view what);

    std::vector<std::pair<std::string, std::string>> startup_parameters_;
    ServerCredential credential_;
    bool encrypted_or_local_;
    std::string server_end_point_;
    bool negotiated_ = false;
    Step step_ = Step::start;
    std::uint32_t messages_seen_ = 0;
    std::uint32_t pid_ = 0;
    std::string cancel_key_;
    std::vector<std::pair<std::string, std::string>> parameters_;
    std::optional<ScramClient> scram_;
    std::shared_ptr<const ScramKeys> learned_keys_;
    std::optional<ServerError> server_error_;
};

}  // namespace pgporter
