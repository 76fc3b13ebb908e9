#include "proxy/wire/startup.hpp"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "base/assert.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"

namespace pgporter {
namespace {

constexpr std::uint32_t code_of(std::uint32_t high, std::uint32_t low) {
    return high << 16 | low;
}

constexpr std::uint32_t cancel_code = code_of(1234, 5678);
constexpr std::uint32_t ssl_code = code_of(1234, 5679);
constexpr std::uint32_t gss_code = code_of(1234, 5680);
constexpr std::uint32_t protocol_3_0 = code_of(3, 0);
constexpr std::size_t length_bytes = 4;

Error violation(std::string message) {
    return fail(ErrorKind::invalid, std::move(message), {}, {}, "08P01");
}

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// PostgreSQL compares these few with case and takes every other name for a run-time parameter, which it compares
// without.
std::string identity_of(std::string_view name) {
    if (name == "user" || name == "database" || name == "options" || name == "replication" ||
        name.starts_with("_pq_.")) {
        return "=" + std::string(name);
    }
    std::string folded = "~" + std::string(name);
    std::transform(folded.begin(), folded.end(), folded.begin(), lower);
    return folded;
}

// The bytes up to a zero byte or the end: the server puts a zero byte behind the packet before it reads it, and so do
// we, in thought.
std::string_view text_at(std::string_view bytes, std::size_t offset) {
    const std::string_view rest = bytes.substr(offset);
    return rest.substr(0, rest.find('\0'));
}

Result<StartupPacket> parse_parameters(std::string_view bytes, StartupMessage startup) {
    std::unordered_map<std::string, std::size_t> seen;
    std::size_t offset = 0;
    while (offset < bytes.size()) {
        const std::string_view name = text_at(bytes, offset);
        if (name.empty()) break;
        const std::size_t value_offset = offset + name.size() + 1;
        if (value_offset >= bytes.size()) break;  // a name without a value: the check below complains
        const std::string_view value = text_at(bytes, value_offset);
        const auto [place, is_new] = seen.try_emplace(identity_of(name), startup.parameters.size());
        if (is_new) {
            startup.parameters.emplace_back(name, value);
        } else {
            startup.parameters[place->second] = {std::string(name), std::string(value)};
        }
        offset = value_offset + value.size() + 1;
    }
    // PostgreSQL lets any one byte pass for the terminator; no client relies on that.
    if (offset + 1 != bytes.size() || bytes.back() != '\0') {
        return violation("invalid startup packet layout: expected terminator as last byte");
    }
    const auto user = seen.find("=user");
    if (user == seen.end() || startup.parameters[user->second].second.empty()) {
        return fail(ErrorKind::invalid, "no PostgreSQL user name specified in startup packet", {}, {}, "28000");
    }
    return startup;
}

Result<StartupPacket> parse_cancel(Reader reader) {
    const auto pid = reader.u32();
    const std::string_view key = reader.rest();
    if (!pid || key.size() < cancel_key_bytes_min || key.size() > cancel_key_bytes_max) {
        return violation("invalid length of cancel request packet");
    }
    return CancelRequest{*pid, std::string(key)};
}

}  // namespace

Result<StartupPacket> parse_startup_packet(std::string_view body) {
    Reader reader(body);
    const auto code = reader.u32();
    if (!code || body.size() > startup_packet_bytes_max - length_bytes)
        return violation("invalid length of startup packet");
    if (*code == cancel_code) return parse_cancel(reader);
    if (*code == ssl_code || *code == gss_code) {
        // Bytes behind the code would have been sent before the answer, which no client does.
        if (!reader.empty()) return violation("invalid length of startup packet");
        if (*code == ssl_code) return SslRequest{};
        return GssEncRequest{};
    }
    StartupMessage startup;
    startup.major = static_cast<std::uint16_t>(*code >> 16);
    startup.minor = static_cast<std::uint16_t>(*code & 0xffff);
    if (startup.major != 3) {
        return fail(ErrorKind::invalid,
                    "unsupported frontend protocol " + std::to_string(startup.major) + "." +
                        std::to_string(startup.minor) + ": server supports 3.0 to 3." +
                        std::to_string(protocol_minor_newest),
                    {}, {}, "0A000");
    }
    return parse_parameters(reader.rest(), std::move(startup));
}

namespace {

std::string with_length(std::string_view body) {
    std::string packet;
    packet.reserve(body.size() + length_bytes);
    put_u32(packet, static_cast<std::uint32_t>(body.size() + length_bytes));
    packet.append(body);
    return packet;
}

}  // namespace

std::string build_startup_message(const std::vector<std::pair<std::string, std::string>>& parameters) {
    std::string body;
    put_u32(body, protocol_3_0);
    for (const auto& [name, value] : parameters) {
        PP_ASSERT(!name.empty() && name.front() != '\0');  // an empty name ends the list
        put_cstring(body, name);
        put_cstring(body, value);
    }
    body.push_back('\0');
    return with_length(body);
}

std::string build_ssl_request() {
    std::string body;
    put_u32(body, ssl_code);
    return with_length(body);
}

std::string build_cancel_request(std::uint32_t pid, std::string_view key) {
    PP_ASSERT(key.size() >= cancel_key_bytes_min && key.size() <= cancel_key_bytes_max);
    std::string body;
    put_u32(body, cancel_code);
    put_u32(body, pid);
    body.append(key);
    return with_length(body);
}

ProtocolChoice choose_protocol(const StartupMessage& startup) {
    ProtocolChoice choice;
    choice.minor = startup.minor >= protocol_minor_newest ? protocol_minor_newest : 0;
    for (const auto& [name, value] : startup.parameters) {
        if (name.starts_with("_pq_.")) choice.unknown_options.push_back(name);
    }
    choice.is_told = choice.minor != startup.minor || !choice.unknown_options.empty();
    return choice;
}

std::string build_negotiate_protocol_version(std::uint32_t newest_minor,
                                             const std::vector<std::string>& unknown_options) {
    std::string out;
    const std::size_t mark = begin_message(out, 'v');
    put_u32(out, protocol_3_0 + newest_minor);
    put_u32(out, static_cast<std::uint32_t>(unknown_options.size()));
    for (const std::string& option : unknown_options) put_cstring(out, option);
    end_message(out, mark);
    return out;
}

}  // namespace pgporter
