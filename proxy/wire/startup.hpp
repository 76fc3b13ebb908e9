// The packets that open a connection (no type byte, a 4-byte length first), read as PostgreSQL reads them. Everything
// here comes from somebody who hasn't authenticated yet: it is bounded, and nothing of it may be acted on before the
// login is done. Pure functions over values; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.hpp"

namespace pgporter {

// A whole startup packet with its length field, as PostgreSQL bounds it.
inline constexpr std::size_t startup_packet_bytes_max = 10000;
inline constexpr std::size_t cancel_key_bytes_min = 4;
inline constexpr std::size_t cancel_key_bytes_max = 256;
// The newest 3.x that this code can speak to a client; 3.2 is 3.0 with longer cancel keys.
inline constexpr std::uint16_t protocol_minor_newest = 2;

struct SslRequest {};
struct GssEncRequest {};
struct CancelRequest {
    std::uint32_t pid = 0;
    std::string key;
};
// `major` is always 3. A name is given once: when the packet repeats it, the last value counts, as in PostgreSQL.
// "user" is present and not empty. Names that PostgreSQL compares without case (run-time parameters) are told apart
// without case here too.
struct StartupMessage {
    std::uint16_t major = 3;
    std::uint16_t minor = 0;
    std::vector<std::pair<std::string, std::string>> parameters;
};
// What becomes of the version and the options that a client asked for.
struct ProtocolChoice {
    std::uint16_t minor = 0;
    bool is_told = false;  // one NegotiateProtocolVersion must go out, before anything about authentication
    std::vector<std::string> unknown_options;
};
using StartupPacket = std::variant<SslRequest, GssEncRequest, CancelRequest, StartupMessage>;

// `body` is the bytes after the 4-byte length. Errors carry PostgreSQL's text and SQLSTATE: 08P01 malformed, 0A000 a
// protocol version that isn't 3.x, 28000 no user.
[[nodiscard]] Result<StartupPacket> parse_startup_packet(std::string_view body);

// Whole packets, with their length. Protocol 3.0: servers of every version take it.
[[nodiscard]] std::string build_startup_message(const std::vector<std::pair<std::string, std::string>>& parameters);
[[nodiscard]] std::string build_ssl_request();
[[nodiscard]] std::string build_cancel_request(std::uint32_t pid, std::string_view key);

// 3.0 and 3.2 are spoken. 3.1 was skipped by PostgreSQL (some poolers claimed it without speaking it): such a client is told 3.0. Newer
// ones, and the made-up 3.9999 that clients send to keep servers honest, are told 3.2. "_pq_." options: none is known.
[[nodiscard]] ProtocolChoice choose_protocol(const StartupMessage& startup);

// Whole message ('v'): the newest minor version of protocol 3 that we speak, and the "_pq_." options that we don't
// know.
[[nodiscard]] std::string build_negotiate_protocol_version(std::uint32_t newest_minor,
                                                           const std::vector<std::string>& unknown_options);

// The value of the `options` startup parameter, split as PostgreSQL splits it (words at white space, a backslash takes
// the next character literally): the run-time parameters of `-c name=value`, `-cname=value` and `--name=value`, in
// order, dashes in a name turned to underscores. Error 42601 for a stray word or a missing value, 22023 for a switch
// that sets something else.
[[nodiscard]] Result<std::vector<std::pair<std::string, std::string>>> parse_options_parameter(
    std::string_view options);

}  // namespace pgporter
