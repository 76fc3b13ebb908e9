// ErrorResponse and NoticeResponse: building ours, reading the server's. Pure functions over values; any thread. Which
// error a client gets for what is decided elsewhere; no secret may be passed in here.
#pragma once

#include <string>
#include <string_view>

namespace pgporter {

// What a server said. A field it left out is empty, the SQLSTATE too: old servers and other poolers leave it out.
struct ServerError {
    std::string severity;  // not localised when the server sent such a one
    std::string sqlstate;
    std::string message;
    std::string detail;
    std::string hint;
};

// Whole messages. `severity` is "ERROR" or "FATAL" (build_notice: "NOTICE", "WARNING", ...); empty detail and hint are
// left out.
[[nodiscard]] std::string build_error(std::string_view severity, std::string_view sqlstate, std::string_view message,
                                      std::string_view detail = {}, std::string_view hint = {});
[[nodiscard]] std::string build_notice(std::string_view severity, std::string_view sqlstate, std::string_view message,
                                       std::string_view detail = {}, std::string_view hint = {});

// The body of an ErrorResponse or NoticeResponse. Tolerant: unknown fields are skipped, a cut-off body gives what was
// whole.
[[nodiscard]] ServerError parse_error(std::string_view body);

// The whole ErrorResponse (type byte, length, body) with every `from` in its message text (field M only) replaced by
// `to`; all other fields stay byte for byte. An empty `from` changes nothing.
[[nodiscard]] std::string rewrite_error_text(std::string_view body, std::string_view from, std::string_view to);

}  // namespace pgporter
