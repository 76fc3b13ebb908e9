#include "proxy/net/proxy_header.hpp"

#include <algorithm>

namespace pgporter {
namespace {

constexpr std::string_view signature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::string_view version_1("PROXY ");

std::uint8_t byte_at(std::string_view bytes, std::size_t at) {
    return static_cast<std::uint8_t>(bytes[at]);
}

std::size_t u16_at(std::string_view bytes, std::size_t at) {
    return static_cast<std::size_t>(byte_at(bytes, at) << 8 | byte_at(bytes, at + 1));
}

bool is_prefix(std::string_view input, std::string_view whole) {
    const std::size_t size = std::min(input.size(), whole.size());
    return input.substr(0, size) == whole.substr(0, size);
}

ProxyHeader malformed(std::string_view problem) {
    ProxyHeader header;
    header.status = ProxyHeader::Status::malformed;
    header.problem = problem;
    return header;
}

bool are_fields_sound(std::string_view fields) {
    while (!fields.empty()) {
        if (fields.size() < 3 || fields.size() - 3 < u16_at(fields, 1)) return false;
        fields.remove_prefix(3 + u16_at(fields, 1));
    }
    return true;
}

// What follows the fixed part: addresses by family, then type-length-value fields, which are skipped.
ProxyHeader read_addresses(ProxyHeader header, std::uint8_t family, std::string_view body) {
    std::size_t address_bytes = 0;
    switch (family) {
        case 0x00: address_bytes = 0; break;    // UNSPEC
        case 0x11: address_bytes = 12; break;   // TCP over IPv4
        case 0x21: address_bytes = 36; break;   // TCP over IPv6
        case 0x31: address_bytes = 216; break;  // Unix-domain stream
        default: return malformed("the header names a family or transport that PostgreSQL isn't spoken over");
    }
    if (body.size() < address_bytes) return malformed("the header is too short for its addresses");
    // UNSPEC may carry anything; nobody says that it is fields.
    if (family != 0x00 && !are_fields_sound(body.substr(address_bytes))) return malformed("a type-length-value field goes past the header");
    if (family == 0x11) {
        header.client = ip_from_v4_bytes(body.substr(0, 4));
        header.client_port = static_cast<std::uint16_t>(u16_at(body, 8));
    } else if (family == 0x21) {
        header.client = ip_from_v6_bytes(body.substr(0, 16));
        header.client_port = static_cast<std::uint16_t>(u16_at(body, 32));
    }
    header.is_unix = family == 0x31;
    return header;
}

}  // namespace

ProxyHeader parse_proxy_header(std::string_view input, std::size_t bytes_max) {
    ProxyHeader header;
    if (!is_prefix(input, signature)) {
        if (!input.empty() && is_prefix(input, version_1)) {
            // Too short to tell it from rubbish that begins alike, which makes no difference.
            return malformed("a header of version 1 of the PROXY protocol came; only version 2 is understood");
        }
        return malformed("no PROXY protocol header came");
    }
    if (input.size() < proxy_header_fixed_bytes) return header;
    const std::uint8_t version_and_command = byte_at(input, 12);
    if (version_and_command >> 4 != 2) return malformed("the header is of another version than 2");
    const std::uint8_t command = version_and_command & 0x0f;
    if (command > 1) return malformed("the header's command is neither LOCAL nor PROXY");
    header.bytes = proxy_header_fixed_bytes + u16_at(input, 14);
    if (header.bytes > bytes_max) return malformed("the header is longer than limits.proxy_header_bytes_max");
    if (input.size() < header.bytes) return header;
    header.status = ProxyHeader::Status::complete;
    header.is_local = command == 0;
    if (header.is_local) return header;  // whatever else it says doesn't count
    const std::string_view body = input.substr(proxy_header_fixed_bytes, header.bytes - proxy_header_fixed_bytes);
    return read_addresses(header, byte_at(input, 13), body);
}

}  // namespace pgporter
