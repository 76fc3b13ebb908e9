// The messages that we make ourselves, and those whose bodies we must understand. Pure functions over values; any
// thread. Builders return whole messages (type byte, length, body) and sit in their own namespace, because their names
// are verbs of the protocol: message::query("..."), message::sync(). Parsers take a body without type and length, never
// read past its end, return nullopt for anything malformed, and give views into the caller's bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgporter {

namespace message {

// ---- as a server, to a client
[[nodiscard]] std::string ready_for_query(char status);  // 'I', 'T' or 'E'
[[nodiscard]] std::string parameter_status(std::string_view name, std::string_view value);
[[nodiscard]] std::string backend_key_data(std::uint32_t pid, std::string_view key);
[[nodiscard]] std::string authentication_ok();
[[nodiscard]] std::string authentication_sasl(const std::vector<std::string>& mechanisms);
[[nodiscard]] std::string authentication_sasl_continue(std::string_view data);
[[nodiscard]] std::string authentication_sasl_final(std::string_view data);
[[nodiscard]] std::string command_complete(std::string_view tag);
[[nodiscard]] std::string parse_complete();
[[nodiscard]] std::string bind_complete();
[[nodiscard]] std::string close_complete();
[[nodiscard]] std::string no_data();
[[nodiscard]] std::string empty_query_response();
// Types of the parameters of a statement, for a Describe that we answer.
[[nodiscard]] std::string parameter_description(const std::vector<std::uint32_t>& type_oids);
// Columns as text (type oid 25 unless given), for rows that we answer ourselves.
struct TextColumn {
    std::string name;
    std::uint32_t type_oid = 25;
};
[[nodiscard]] std::string row_description(const std::vector<TextColumn>& columns);
[[nodiscard]] std::string data_row(const std::vector<std::optional<std::string>>& values);

// ---- as a client, to a server
[[nodiscard]] std::string query(std::string_view sql);
[[nodiscard]] std::string parse(std::string_view name, std::string_view sql,
                                const std::vector<std::uint32_t>& oids = {});
// Parameters and results as text. A parameter that is nullopt is NULL.
[[nodiscard]] std::string bind_text(std::string_view portal, std::string_view statement,
                                    const std::vector<std::optional<std::string>>& parameters);
[[nodiscard]] std::string describe(char kind, std::string_view name);  // kind: 'S' statement, 'P' portal
[[nodiscard]] std::string execute(std::string_view portal, std::uint32_t rows_max = 0);  // 0: all rows
[[nodiscard]] std::string close(char kind, std::string_view name);  // kind: 'S' statement, 'P' portal
[[nodiscard]] std::string sync();
[[nodiscard]] std::string flush();
[[nodiscard]] std::string terminate();
[[nodiscard]] std::string copy_fail(std::string_view reason);
[[nodiscard]] std::string sasl_initial_response(std::string_view mechanism, std::string_view data);
[[nodiscard]] std::string sasl_response(std::string_view data);
[[nodiscard]] std::string password_message(std::string_view password);

}  // namespace message

struct BackendKeyData {
    std::uint32_t pid = 0;
    std::string_view key;  // 4 to 256 bytes
};

// A SASLInitialResponse; `data` is nullopt when the client sent no initial response.
struct SaslInitialResponse {
    std::string_view mechanism;
    std::optional<std::string_view> data;
};

[[nodiscard]] std::optional<std::vector<std::optional<std::string_view>>> parse_data_row(std::string_view body);
[[nodiscard]] std::optional<std::pair<std::string_view, std::string_view>> parse_parameter_status(
    std::string_view body);
[[nodiscard]] std::optional<BackendKeyData> parse_backend_key_data(std::string_view body);
[[nodiscard]] std::optional<std::string_view> parse_command_tag(std::string_view body);
[[nodiscard]] std::optional<SaslInitialResponse> parse_sasl_initial_response(std::string_view body);

}  // namespace pgporter
