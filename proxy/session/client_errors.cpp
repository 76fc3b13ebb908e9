#include "proxy/session/client_errors.hpp"

#include "proxy/wire/error_response.hpp"
#include "proxy/wire/writer.hpp"

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
Error certificate_required() {
    return fail(ErrorKind::forbidden, "connection requires a valid client certificate", {}, "connect with sslcert and sslkey", "28000");
}
Error bad_certificate(std::string_view user, std::string detail) {
    return fail(ErrorKind::unauthenticated, "certificate authentication failed for user " + quoted(user), std::move(detail), {}, "28000");
}
Error peer_mismatch(std::string_view user) {
    return fail(ErrorKind::unauthenticated, "peer authentication failed for user " + quoted(user), {},
                "connect as the operating system's user of that name", "28000");
}
Error no_replication() {
    return fail(ErrorKind::invalid, "replication connections are not accepted here", {},
                "set replication: true for this listener, or connect to the PostgreSQL server directly", "0A000");
}
Error replication_forbidden(std::string_view user) {
    return fail(ErrorKind::forbidden, "user " + quoted(user) + " may not open replication connections",
                "they can read every tenant of the cluster, so only users of all tenants may", {}, "42501");
}
Error no_replication_place() {
    return fail(ErrorKind::limit, "no server connection became free for a replication connection", {},
                "see limits.wait_ms_max and the caps on server connections", "53300");
}
Error invalid_replication(std::string_view value) {
    return fail(ErrorKind::invalid, "invalid value for parameter \"replication\": " + quoted(value), {},
                "Valid values are: \"false\", 0, \"true\", 1, \"database\".", "22023");
}
Error too_many_logins_from_address() {
    return fail(ErrorKind::limit, "too many connections from this address are logging in", {}, "see limits.logins_per_address_max", "53300");
}
// Class 28, not 53: pools take "too many connections" for a reason to try again at once.
Error too_many_failed_logins(std::string_view user) {
    return fail(ErrorKind::limit, "too many failed logins for user " + quoted(user) + " from this address, try again later", {},
                "see limits.auth_failures_max and limits.auth_failure_window_ms", "28000");
}
Error address_not_allowed(std::string_view tenant) {
    return fail(ErrorKind::forbidden, "tenant " + quoted(tenant) + " does not accept connections from this address", {},
                "see the tenant's allowed_addresses", "28000");
}
Error address_no_longer_allowed(std::string_view tenant) {
    return fail(ErrorKind::forbidden, "terminating connection: tenant " + quoted(tenant) + " no longer accepts connections from this address", {},
                "see the tenant's allowed_addresses", "57P01");
}
Error replication_ends() {
    return fail(ErrorKind::unavailable, "terminating replication connection: its tenant has moved, or its user may not open it any more", {},
                "connect again", "57P01");
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
Error server_silent(long ms) {
    return fail(ErrorKind::unavailable, "the server's host has not answered for " + std::to_string(ms) + " ms, its connection was given up",
                "the transaction's outcome is unknown if it was being committed", "connect again; see limits.server_silent_ms_max", "08006");
}
Error message_timeout(long ms) {
    return fail(ErrorKind::timeout, "terminating connection: the rest of a message did not come within " + std::to_string(ms) + " ms", {},
                "see limits.client_read_ms_max", "08006");
}
Error out_of_memory() {
    return fail(ErrorKind::limit, "pgporter is out of memory for messages and prepared statements", {},
                "try again; close statements that are no longer needed, or see limits.buffered_mib_max", "53200");
}
Error out_of_descriptors() {
    return fail(ErrorKind::limit, "sorry, too many clients already", "pgporter has no file descriptor left for another client",
                "see limits.sessions_max and the operating system's limit on open files", "53300");
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
Error too_many_transactions(std::string_view tenant, std::uint32_t per_second) {
    return fail(ErrorKind::limit, "tenant " + quoted(tenant) + " begins more than " + std::to_string(per_second) + " transactions a second", {},
                "try again; see the tenant's transactions_per_second_max, and limits.wait_ms_max", "53400");
}
Error too_many_bytes(std::string_view tenant, std::uint32_t kib_per_second) {
    return fail(ErrorKind::limit, "tenant " + quoted(tenant) + " sends and receives more than " + std::to_string(kib_per_second) + " KiB a second", {},
                "try again; see the tenant's kib_per_second_max, and limits.wait_ms_max", "53400");
}
Error statement_timeout(std::uint32_t ms) {
    return fail(ErrorKind::timeout, "canceling statement due to statement timeout", "it took more than " + std::to_string(ms) + " ms",
                "see the tenant's statement_ms_max", "57014");
}
Error transaction_timeout(std::uint32_t ms) {
    return fail(ErrorKind::timeout, "terminating connection due to transaction timeout", "it took more than " + std::to_string(ms) + " ms",
                "see the tenant's transaction_ms_max", "25P04");
}
Error not_ready() {
    return fail(ErrorKind::unavailable, "pgporter has no catalog yet", {}, "try again in a moment", "57P03");
}

Error moved_meanwhile(std::string_view tenant) {
    return fail(ErrorKind::conflict, "could not serialize access: tenant " + quoted(tenant) + " is being moved to another database",
                "nothing of the transaction was done", "try the transaction again", "40001");
}

Error session_pooled(std::string_view tenant) {
    return fail(ErrorKind::invalid, "tenant " + quoted(tenant) + " uses session pooling and can't be named in SQL", {},
                "name it at login, or set its pool_mode to transaction", "0A000");
}
Error computed_setting(std::string_view setting) {
    return fail(ErrorKind::invalid, "parameter " + quoted(setting) + " names the tenant and is set to a value that pgporter can't know", {},
                "set it to a literal or a bind parameter", "0A000");
}
Error tenant_elsewhere(std::string_view from, std::string_view to) {
    const auto who = [](std::string_view tenant) { return tenant.empty() ? std::string("no tenant") : "tenant " + quoted(tenant); };
    return fail(ErrorKind::invalid,
                "a transaction can't turn from " + who(from) + " to " + who(to) + " after its first statement",
                "only a search_path does that, where both live in one database under one role",
                "end the transaction first, or name the tenant before its first statement", "0A000");
}
Error tenant_while_pinned(std::string_view tenant, std::string_view reason) {
    return fail(ErrorKind::invalid,
                "the session can't turn to tenant " + quoted(tenant) + " while it keeps its server connection (" + std::string(reason) + ")", {},
                "give that up first (UNLISTEN *, DROP TABLE, CLOSE, DEALLOCATE, DISCARD ALL ..)", "0A000");
}
Error types_have_moved(std::string_view tenant) {
    return fail(ErrorKind::unavailable, "terminating connection because tenant " + quoted(tenant) + " has moved and its own types have other OIDs now",
                "the session has seen OIDs of types that aren't built in", "connect again", "57P01");
}
Error too_many_own_types() {
    return fail(ErrorKind::limit, "terminating connection because it has seen own types of too many tenants (limits.own_types_tenants_max)",
                "their OIDs hold only where those tenants live now", "connect again", "57P01");
}
Error transaction_aborted() {
    return fail(ErrorKind::invalid, "current transaction is aborted, commands ignored until end of transaction block", {}, {}, "25P02");
}

Error unreadable_naming() {
    return fail(ErrorKind::invalid, "the tenant is named by characters beyond ASCII in a client_encoding other than UTF8", {},
                "set client_encoding to UTF8 before naming it", "0A000");
}
Error unreadable_setting() {
    return fail(ErrorKind::invalid, "a parameter's name has characters beyond ASCII in a client_encoding other than UTF8", {},
                "set client_encoding to UTF8, or name the parameter in ASCII", "0A000");
}
Error unreadable_statement() {
    return fail(ErrorKind::invalid,
                "a statement with a backslash or characters beyond ASCII follows a change of client_encoding or standard_conforming_strings too closely",
                "how PostgreSQL will read it isn't known before the change has been answered", "send Sync, and wait for ReadyForQuery, first", "0A000");
}
Error unguarded() {
    return fail(ErrorKind::internal, "pgporter has ended the connection rather than send a statement that its tenant's context might not have covered", {},
                "report this as a defect, with the statements that led to it; what was sent last was not run", "XX000");
}
Error dialect_changed() {
    return fail(ErrorKind::invalid,
                "terminating connection because client_encoding or standard_conforming_strings changed while statements that depend on it were under way",
                {}, "change it by SET, and wait for the answer before sending more", "08P01");
}
Error statement_spelled_otherwise() {
    return fail(ErrorKind::not_found, "the prepared statement was made under another client_encoding or standard_conforming_strings", {},
                "prepare it again", "26000");
}
Error changed_result() {
    return fail(ErrorKind::invalid, "cached plan must not change result type", {}, {}, "0A000");
}

std::string changed_result_message() {
    std::string text = to_message(changed_result(), "ERROR");
    text.pop_back();  // the list of fields goes on
    for (const std::string_view field : {"Fplancache.c", "RRevalidateCachedQuery"}) {
        text += field;
        text += '\0';
    }
    text += '\0';
    end_message(text, 1);
    return text;
}

std::string to_message(const Error& error, std::string_view severity) {
    const std::string_view sqlstate = error.sqlstate.empty() ? sqlstate_of(error.kind) : std::string_view(error.sqlstate);
    return build_error(severity, sqlstate, error.message, error.detail, error.hint);
}

}  // namespace pgporter::client_error
