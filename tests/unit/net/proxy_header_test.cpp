#include "proxy/net/proxy_header.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace pgporter;
using Status = ProxyHeader::Status;

namespace {

constexpr std::size_t bytes_max = 2048;

std::string u16(std::size_t value) {
    return {static_cast<char>(value >> 8), static_cast<char>(value & 0xff)};
}

std::string header(char version_and_command, char family, const std::string& body) {
    return std::string("\r\n\r\n\0\r\nQUIT\n", 12) + version_and_command + family + u16(body.size()) + body;
}

const std::string v4_body = std::string("\xc0\x00\x02\x07\x0a\x00\x00\x01", 8) + u16(51234) + u16(5432);
const std::string v6_body = std::string("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16) + std::string(16, '\0') + u16(40000) + u16(5432);
const std::string field = '\x04' + u16(5) + "hello";

}  // namespace

TEST_CASE("an IPv4 client") {
    const ProxyHeader got = parse_proxy_header(header(0x21, 0x11, v4_body), bytes_max);
    CHECK(got.status == Status::complete);
    CHECK(got.bytes == 28);
    REQUIRE(got.client.has_value());
    CHECK(to_text(*got.client) == "192.0.2.7");
    CHECK(got.client_port == 51234);
    CHECK_FALSE(got.is_local);
}

TEST_CASE("an IPv6 client, with fields behind the addresses") {
    const ProxyHeader got = parse_proxy_header(header(0x21, 0x21, v6_body + field + field), bytes_max);
    CHECK(got.status == Status::complete);
    REQUIRE(got.client.has_value());
    CHECK(to_text(*got.client) == "2001:db8::1");
    CHECK(got.client_port == 40000);
}

TEST_CASE("a Unix-domain client has no address") {
    const ProxyHeader got = parse_proxy_header(header(0x21, 0x31, std::string(216, 'x')), bytes_max);
    CHECK(got.status == Status::complete);
    CHECK(got.is_unix);
    CHECK_FALSE(got.client.has_value());
}

TEST_CASE("LOCAL and UNSPEC leave the connection's own address") {
    for (const std::string& text : {header(0x20, 0x00, ""), header(0x20, 0x11, v4_body), header(0x21, 0x00, ""), header(0x21, 0x00, "\x01")}) {
        const ProxyHeader got = parse_proxy_header(text, bytes_max);
        CHECK(got.status == Status::complete);
        CHECK_FALSE(got.client.has_value());
        CHECK_FALSE(got.is_unix);
    }
    CHECK(parse_proxy_header(header(0x20, 0x11, v4_body), bytes_max).is_local);
}

TEST_CASE("at every split point more is asked for, and never a byte of what follows") {
    for (const std::string& text : {header(0x21, 0x11, v4_body), header(0x21, 0x21, v6_body + field), header(0x20, 0x00, "")}) {
        for (std::size_t size = 0; size < text.size(); ++size) {
            const ProxyHeader got = parse_proxy_header(std::string_view(text).substr(0, size), bytes_max);
            CHECK(got.status == Status::need_more);
            CHECK(got.bytes > size);
            CHECK(got.bytes <= text.size());
        }
        CHECK(parse_proxy_header(text, bytes_max).bytes == text.size());
    }
}

TEST_CASE("what isn't a header of version 2 is malformed as soon as it shows") {
    const auto problem = [](const std::string& text) { return parse_proxy_header(text, bytes_max).problem; };
    CHECK(problem("PROXY TCP4 192.0.2.7 10.0.0.1 51234 5432\r\n").find("version 1") != std::string_view::npos);
    CHECK(problem("P").find("version 1") != std::string_view::npos);
    CHECK(parse_proxy_header(std::string("\0\0\0\x08", 4), bytes_max).status == Status::malformed);  // a startup packet
    CHECK(parse_proxy_header("\x16\x03\x01", bytes_max).status == Status::malformed);                // TLS
    CHECK(parse_proxy_header("\r\n\r\n\r", bytes_max).status == Status::malformed);
    CHECK(parse_proxy_header(header(0x11, 0x11, v4_body), bytes_max).status == Status::malformed);  // version 1 in binary
    CHECK(parse_proxy_header(header(0x22, 0x11, v4_body), bytes_max).status == Status::malformed);  // no such command
    CHECK(parse_proxy_header(header(0x21, 0x12, v4_body), bytes_max).status == Status::malformed);  // UDP
    CHECK(parse_proxy_header(header(0x21, 0x41, v4_body), bytes_max).status == Status::malformed);
}

TEST_CASE("lengths that lie are malformed") {
    for (std::size_t size = 0; size < 12; ++size) {
        CHECK(parse_proxy_header(header(0x21, 0x11, v4_body.substr(0, size)), bytes_max).status == Status::malformed);
    }
    for (std::size_t size = 1; size < field.size(); ++size) {
        CHECK(parse_proxy_header(header(0x21, 0x11, v4_body + field.substr(0, size)), bytes_max).status == Status::malformed);
    }
    const std::string longest = header(0x21, 0x11, v4_body + '\x04' + u16(bytes_max - 28 - 3) + std::string(bytes_max - 28 - 3, 'x'));
    CHECK(longest.size() == bytes_max);
    CHECK(parse_proxy_header(longest, bytes_max).status == Status::complete);
    CHECK(parse_proxy_header(longest.substr(0, 16), bytes_max - 1).status == Status::malformed);  // before a byte of it is waited for
}
