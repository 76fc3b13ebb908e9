#include "proxy/session/client_errors.hpp"

#include "proxy/wire/error_response.hpp"

namespace pgporter::client_error {
namespace {

std::string quoted(std::string_view name) {
    return "\"" + std::string(name) + "\"";
}

std::string_view sqlstate_of(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::invalid: return "22023";
        case ErrorKind::not_found: return "3D000";
        case ErrorKind::conflict: return "55006";
        case ErrorKind::unauthenticated: return "28P01";
        case ErrorKind::forbidden: return "42501";
        case ErrorKind::limit: return "53300";
        case ErrorKind::timeout: return "57P03";
        case ErrorKind::unavailable: return "08006";
        case ErrorKind::cancelled: return "57014";
        case ErrorKind::internal: return "58000";
    }
    return "XX000";
}

}  // namespace

Error bad_password(std::string_view user) {
    return fail(ErrorKind::unauthenticated, "password authentication failed for user " + quoted(user), {}, {}, "28P01");
}
Error tls_required() {
    return fail(ErrorKind::forbidden, "this address accepts TLS connections only", {}, "connect with sslmode=require or stronger", "28000");
}
Error no_replication() {
    return fail(ErrorKind::invalid, "replication connections are not pooled", {},
                "connect to the PostgreSQL server directly for replication", "0A000");
}
Error login_timeout() {
    return fail(ErrorKind::timeout, "the login took too long", {}, "see limits.login_ms_max", "57014");
}
Error protocol_violation(std::string message) {
    return fail(ErrorKind::invalid, std::move(message), {}, {}, "08P01");
}
Error invalid_message_type(char type) {
    return protocol_violation("invalid frontend message type " + std::to_string(static_cast<unsigned char>(type)));
}
Error too_many_sessions() {
    return fail(ErrorKind::limit, "sorry, too many clients already", {}, "see limits.sessions_max and limits.logins_max", "53300");
}
Error too_many_tenant_sessions(std::string_view tenant) {
    return fail(ErrorKind::limit, "too many connections for tenant " + quoted(tenant), {}, "see the tenant's sessions_max", "53300");
}
Error too_many_waiters() {
    return fail(ErrorKind::limit, "too many transactions wait for a server connection", {},
                "see limits.waiters_max and the caps on server connections", "53300");
}
Error wait_timeout(long ms) {
    return fail(ErrorKind::timeout, "no server connection became free within " + std::to_string(ms) + " ms", {},
                "try again; see limits.wait_ms_max and the caps on server connections", "53300");
}
Error hold_timeout(std::string_view tenant, long ms) {
    return fail(ErrorKind::timeout, "tenant " + quoted(tenant) + " is being moved and was held for more than " + std::to_string(ms) + " ms",
                {}, "try again; see limits.hold_wait_ms_max", "57P03");
}
Error too_many_held(std::string_view tenant) {
    return fail(ErrorKind::limit, "tenant " + quoted(tenant) + " is being moved and too many transactions wait for it", {},
                "try again; see limits.hold_waiters_max", "57P03");
}
Error cancelled() {
    return fail(ErrorKind::cancelled, "canceling statement due to user request", {}, {}, "57014");
}
Error shutting_down() {
    return fail(ErrorKind::unavailable, "terminating connection due to administrator command", "pgporter is shutting down",
                "connect again", "57P01");
}
Error server_lost() {
    return fail(ErrorKind::unavailable, "the server closed the connection unexpectedly",
                "the transaction's outcome is unknown if it was being committed", "connect again", "08006");
}
Error statement_too_long(std::size_t bytes_max) {
    return fail(ErrorKind::limit, "a named prepared statement may have at most " + std::to_string(bytes_max) + " bytes", {},
                "use the unnamed statement, or see limits.statement_bytes_max", "54000");
}
Error too_many_statements(std::size_t statements_max) {
    return fail(ErrorKind::limit, "a session may have at most " + std::to_string(statements_max) + " prepared statements", {},
                "close those that are no longer needed, or see limits.prepared_statements_max", "53400");
}
Error idle_in_transaction(long ms) {
    return fail(ErrorKind::timeout, "terminating connection due to idle-in-transaction timeout",
                "no statement came for " + std::to_string(ms) + " ms", "see limits.idle_in_transaction_ms_max", "25P03");
}
Error not_ready() {
    return fail(ErrorKind::unavailable, "pgporter has no catalog yet", {}, "try again in a moment", "57P03");
}

std::string to_message(const Error& error, std::string_view severity) {
    const std::string_view sqlstate = error.sqlstate.empty() ? sqlstate_of(error.kind) : std::string_view(error.sqlstate);
    return build_error(severity, sqlstate, error.message, error.detail, error.hint);
}

}  // namespace pgporter::client_error
