// EndReason: how a client session ended. Each session ends with exactly one; it labels the metric and the log line. Values; any thread.
#pragma once

#include <string_view>

namespace pgporter {

enum class EndReason {
    none,                // still going on
    client_terminated,   // Terminate message, or closed between transactions
    client_lost,         // closed or failed in the middle of something
    client_too_slow,     // didn't read its reply for limits.client_write_ms_max, or left a message half sent for limits.client_read_ms_max
    client_silent,       // its host is gone: limits.client_silent_ms_max
    protocol_violation,  // the client broke the protocol
    login_failed,        // wrong password, unknown user or tenant, refused
    login_timeout,
    limit,               // a bound of this instance was hit
    server_lost,         // the server connection ended while it was lent
    server_unavailable,  // no server connection could be had at login
    idle_in_transaction,
    time_limit,          // a statement or transaction took longer than its tenant's may
    administrator        // shutdown
};

enum class EndSide { client, server, proxy };

[[nodiscard]] constexpr std::string_view to_text(EndReason reason) {
    switch (reason) {
        case EndReason::none: return "none";
        case EndReason::client_terminated: return "client_terminated";
        case EndReason::client_lost: return "client_lost";
        case EndReason::client_too_slow: return "client_too_slow";
        case EndReason::client_silent: return "client_silent";
        case EndReason::protocol_violation: return "protocol_violation";
        case EndReason::login_failed: return "login_failed";
        case EndReason::login_timeout: return "login_timeout";
        case EndReason::limit: return "limit";
        case EndReason::server_lost: return "server_lost";
        case EndReason::server_unavailable: return "server_unavailable";
        case EndReason::idle_in_transaction: return "idle_in_transaction";
        case EndReason::time_limit: return "time_limit";
        case EndReason::administrator: return "administrator";
    }
    return "unknown";
}

[[nodiscard]] constexpr EndSide side_of(EndReason reason) {
    switch (reason) {
        case EndReason::client_terminated:
        case EndReason::client_lost:
        case EndReason::client_too_slow:
        case EndReason::client_silent:
        case EndReason::protocol_violation: return EndSide::client;
        case EndReason::server_lost:
        case EndReason::server_unavailable: return EndSide::server;
        case EndReason::none:
        case EndReason::login_failed:
        case EndReason::login_timeout:
        case EndReason::limit:
        case EndReason::idle_in_transaction:
        case EndReason::time_limit:
        case EndReason::administrator: return EndSide::proxy;
    }
    return EndSide::proxy;
}

}  // namespace pgporter
