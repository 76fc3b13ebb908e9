// Every error that pgporter itself says to clients, in one table: SQLSTATE, message, detail, hint. Messages stand alone (drivers drop
// hints), are lower case, have no full stop and no address. Errors of the router carry their own SQLSTATE and pass through as_error().
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace pgporter::client_error {

[[nodiscard]] Error bad_password(std::string_view user);  // the same for an unknown user
[[nodiscard]] Error tls_required();
[[nodiscard]] Error certificate_required();
[[nodiscard]] Error bad_certificate(std::string_view user, std::string detail);
[[nodiscard]] Error peer_mismatch(std::string_view user);
[[nodiscard]] Error no_replication();
[[nodiscard]] Error replication_forbidden(std::string_view user);
[[nodiscard]] Error no_replication_place();
[[nodiscard]] Error invalid_replication(std::string_view value);
[[nodiscard]] Error too_many_logins_from_address();
[[nodiscard]] Error too_many_failed_logins(std::string_view user);  // the same for an unknown user
[[nodiscard]] Error address_not_allowed(std::string_view tenant);
[[nodiscard]] Error address_no_longer_allowed(std::string_view tenant);
[[nodiscard]] Error replication_ends();
[[nodiscard]] Error login_timeout();
[[nodiscard]] Error protocol_violation(std::string message);
[[nodiscard]] Error invalid_message_type(char type);
[[nodiscard]] Error too_many_sessions();
[[nodiscard]] Error too_many_tenant_sessions(std::string_view tenant);
[[nodiscard]] Error too_many_waiters();
[[nodiscard]] Error wait_timeout(long ms);
[[nodiscard]] Error hold_timeout(std::string_view tenant, long ms);
[[nodiscard]] Error too_many_held(std::string_view tenant);
[[nodiscard]] Error cancelled();
[[nodiscard]] Error shutting_down();
[[nodiscard]] Error server_lost();
[[nodiscard]] Error unguarded();
[[nodiscard]] Error server_silent(long ms);
[[nodiscard]] Error message_timeout(long ms);
[[nodiscard]] Error out_of_memory();
[[nodiscard]] Error out_of_descriptors();
[[nodiscard]] Error statement_too_long(std::size_t bytes_max);
[[nodiscard]] Error too_many_statements(std::size_t statements_max);
[[nodiscard]] Error idle_in_transaction(long ms);
[[nodiscard]] Error too_many_transactions(std::string_view tenant, std::uint32_t per_second);
[[nodiscard]] Error too_many_bytes(std::string_view tenant, std::uint32_t kib_per_second);
[[nodiscard]] Error statement_timeout(std::uint32_t ms);
[[nodiscard]] Error transaction_timeout(std::uint32_t ms);
[[nodiscard]] Error not_ready();
// Class 40: applications try such a transaction again.
[[nodiscard]] Error moved_meanwhile(std::string_view tenant);
// The tenant in SQL.
[[nodiscard]] Error session_pooled(std::string_view tenant);
[[nodiscard]] Error computed_setting(std::string_view setting);
[[nodiscard]] Error tenant_elsewhere(std::string_view from, std::string_view to);
[[nodiscard]] Error tenant_while_pinned(std::string_view tenant, std::string_view reason);
[[nodiscard]] Error types_have_moved(std::string_view tenant);
[[nodiscard]] Error too_many_own_types();
[[nodiscard]] Error transaction_aborted();
// SQL in another dialect than UTF-8 with standard_conforming_strings on.
[[nodiscard]] Error unreadable_naming();
[[nodiscard]] Error unreadable_setting();
[[nodiscard]] Error unreadable_statement();
[[nodiscard]] Error dialect_changed();
[[nodiscard]] Error statement_spelled_otherwise();
[[nodiscard]] Error changed_result();

// The whole 'E' message. An error without SQLSTATE gets one by its kind.
[[nodiscard]] std::string to_message(const Error& error, std::string_view severity);
// changed_result() as PostgreSQL says it: drivers that prepare again by themselves know it by its routine.
[[nodiscard]] std::string changed_result_message();

}  // namespace pgporter::client_error
