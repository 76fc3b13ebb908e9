#include "proxy/wire/startup.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"

using namespace pgporter;

namespace {

using Parameters = std::vector<std::pair<std::string, std::string>>;

std::string code(std::uint16_t high, std::uint16_t low) {
    std::string out;
    put_u16(out, high);
    put_u16(out, low);
    return out;
}

// "user=app,database=d" as a startup packet's body.
std::string startup(std::uint16_t minor, const Parameters& parameters) {
    std::string out = code(3, minor);
    for (const auto& [name, value] : parameters) {
        put_cstring(out, name);
        put_cstring(out, value);
    }
    out.push_back('\0');
    return out;
}

void check_error(const Result<StartupPacket>& result, std::string_view sqlstate, std::string_view text) {
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().sqlstate == sqlstate);
    CHECK(result.error().message == text);
}

constexpr std::string_view layout = "invalid startup packet layout: expected terminator as last byte";
constexpr std::string_view length = "invalid length of startup packet";

// The packet without its length, which must be right.
std::string body_of(const std::string& packet) {
    Reader reader(packet);
    REQUIRE(reader.u32() == packet.size());
    return std::string(reader.rest());
}

}  // namespace

TEST_CASE("a startup message") {
    const auto packet = parse_startup_packet(startup(2, {{"user", "app"}, {"database", "shop"}, {"options", ""}}));
    REQUIRE(packet.has_value());
    const auto& message = std::get<StartupMessage>(*packet);
    CHECK(message.major == 3);
    CHECK(message.minor == 2);
    CHECK(message.parameters == Parameters{{"user", "app"}, {"database", "shop"}, {"options", ""}});
}

TEST_CASE("a repeated parameter: the last value counts") {
    const auto packet = parse_startup_packet(
        startup(0, {{"user", "a"}, {"Search_Path", "x"}, {"user", "b"}, {"search_path", "y"}, {"USER", "c"}}));
    REQUIRE(packet.has_value());
    CHECK(std::get<StartupMessage>(*packet).parameters ==
          Parameters{{"user", "b"}, {"search_path", "y"}, {"USER", "c"}});
}

TEST_CASE("a startup message cut anywhere is refused") {
    const std::string whole = startup(0, {{"user", "app"}, {"database", "d"}});
    for (std::size_t size = 0; size < whole.size(); ++size) {
        INFO(size);
        // A copy of exactly that size: a sanitizer sees any look behind its end.
        const std::vector<char> copy(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        const auto result = parse_startup_packet({copy.data(), copy.size()});
        // Where a value could as well have ended, the packet lacks only what was cut off.
        if (size < 4) {
            check_error(result, "08P01", length);
        } else {
            check_error(result, "08P01", layout);
        }
    }
}

TEST_CASE("malformed startup messages") {
    check_error(parse_startup_packet(startup(0, {{"user", "a"}}) + "x"), "08P01", layout);
    check_error(parse_startup_packet(startup(0, {{"user", "a"}}) + '\0'), "08P01", layout);
    check_error(parse_startup_packet(code(3, 0) + "user"), "08P01", layout);
    check_error(parse_startup_packet(code(3, 0) + "u"), "08P01", layout);
    check_error(parse_startup_packet(code(3, 0) + std::string("user\0", 5)), "08P01", layout);
    check_error(parse_startup_packet(startup(0, {})), "28000", "no PostgreSQL user name specified in startup packet");
    check_error(parse_startup_packet(startup(0, {{"database", "d"}})), "28000",
                "no PostgreSQL user name specified in startup packet");
    check_error(parse_startup_packet(startup(0, {{"user", ""}})), "28000",
                "no PostgreSQL user name specified in startup packet");
    check_error(parse_startup_packet(startup(0, {{"user", "a"}, {"user", ""}})), "28000",
                "no PostgreSQL user name specified in startup packet");
    check_error(parse_startup_packet(startup(0, {{"USER", "a"}})), "28000",
                "no PostgreSQL user name specified in startup packet");
}

TEST_CASE("versions") {
    check_error(parse_startup_packet(code(2, 0)), "0A000",
                "unsupported frontend protocol 2.0: server supports 3.0 to 3.2");
    check_error(parse_startup_packet(code(4, 1) + "x"), "0A000",
                "unsupported frontend protocol 4.1: server supports 3.0 to 3.2");
    check_error(parse_startup_packet(code(0, 0)), "0A000",
                "unsupported frontend protocol 0.0: server supports 3.0 to 3.2");
    check_error(parse_startup_packet(code(1234, 9999)), "0A000",
                "unsupported frontend protocol 1234.9999: server supports 3.0 to 3.2");
    CHECK(parse_startup_packet(startup(9999, {{"user", "a"}})).has_value());  // to be negotiated down
}

TEST_CASE("the length of a startup packet is bounded") {
    const std::size_t room = startup_packet_bytes_max - 4 - startup(0, {{"user", "a"}, {"x", ""}}).size();
    CHECK(parse_startup_packet(startup(0, {{"user", "a"}, {"x", std::string(room, 'v')}})).has_value());
    check_error(parse_startup_packet(startup(0, {{"user", "a"}, {"x", std::string(room + 1, 'v')}})), "08P01", length);
    check_error(parse_startup_packet(""), "08P01", length);
}

TEST_CASE("requests for encryption") {
    CHECK(std::holds_alternative<SslRequest>(parse_startup_packet(code(1234, 5679)).value()));
    CHECK(std::holds_alternative<GssEncRequest>(parse_startup_packet(code(1234, 5680)).value()));
    check_error(parse_startup_packet(code(1234, 5679) + "x"), "08P01", length);
    check_error(parse_startup_packet(code(1234, 5680) + '\0'), "08P01", length);
    CHECK(std::holds_alternative<SslRequest>(parse_startup_packet(body_of(build_ssl_request())).value()));
}

TEST_CASE("cancel requests have keys of 4 to 256 bytes") {
    for (const std::size_t size : {std::size_t{4}, std::size_t{5}, std::size_t{32}, std::size_t{256}}) {
        const std::string key(size, '\x9c');
        const auto packet = parse_startup_packet(body_of(build_cancel_request(0xfffffffe, key)));
        REQUIRE(packet.has_value());
        CHECK(std::get<CancelRequest>(*packet).pid == 0xfffffffe);
        CHECK(std::get<CancelRequest>(*packet).key == key);
    }
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{3}, std::size_t{7}, std::size_t{261}, std::size_t{9000}}) {
        // pid and key together: 4 to 260 bytes are one of each
        if (size >= 8 && size <= 260) continue;
        check_error(parse_startup_packet(code(1234, 5678) + std::string(size, 'k')), "08P01",
                    "invalid length of cancel request packet");
    }
}

TEST_CASE("what we build, we can read") {
    const Parameters parameters = {{"user", "app"}, {"database", ""}, {"search_path", "\"a b\", public"}};
    const auto packet = parse_startup_packet(body_of(build_startup_message(parameters)));
    REQUIRE(packet.has_value());
    CHECK(std::get<StartupMessage>(*packet).minor == 0);
    CHECK(std::get<StartupMessage>(*packet).parameters == parameters);
}

TEST_CASE("NegotiateProtocolVersion") {
    CHECK(build_negotiate_protocol_version(2, {"_pq_.a", "_pq_.b"}) ==
          std::string("v\0\0\0\x1a\0\3\0\2\0\0\0\2_pq_.a\0_pq_.b\0", 27));
    CHECK(build_negotiate_protocol_version(0, {}) == std::string("v\0\0\0\x0c\0\3\0\0\0\0\0\0", 13));
}

TEST_CASE("options are split as PostgreSQL splits them") {
    const auto settings = [](std::string_view options) { return parse_options_parameter(options).value(); };
    CHECK(settings("").empty());
    CHECK(settings(" \t\n").empty());
    CHECK(settings("-c search_path=acme") == Parameters{{"search_path", "acme"}});
    CHECK(settings("-csearch_path=acme") == Parameters{{"search_path", "acme"}});
    CHECK(settings("--search_path=acme") == Parameters{{"search_path", "acme"}});
    CHECK(settings("--search-path=a-b") == Parameters{{"search_path", "a-b"}});
    CHECK(settings("-c search-path=a-b") == Parameters{{"search_path", "a-b"}});
    CHECK(settings("  -c a=1   -c   b=2\t--c=3 ") == Parameters{{"a", "1"}, {"b", "2"}, {"c", "3"}});
    CHECK(settings("-c search_path=acme,\\ public") == Parameters{{"search_path", "acme, public"}});
    CHECK(settings("-c a=b\\\\c") == Parameters{{"a", "b\\c"}});
    CHECK(settings("-c a=b\\") == Parameters{{"a", "b"}});
    CHECK(settings("-c a=") == Parameters{{"a", ""}});
    CHECK(settings("-c a=b=c") == Parameters{{"a", "b=c"}});
    CHECK(settings("-c pgporter.tenant=acme -c a='q'") == Parameters{{"pgporter.tenant", "acme"}, {"a", "'q'"}});
    CHECK(settings("-c a=1 -c a=2") == Parameters{{"a", "1"}, {"a", "2"}});
}

TEST_CASE("options that set nothing are errors") {
    const auto sqlstate = [](std::string_view options) { return parse_options_parameter(options).error().sqlstate; };
    CHECK(sqlstate("stray") == "42601");
    CHECK(sqlstate("-c a=1 stray") == "42601");
    CHECK(sqlstate("-c a=b c") == "42601");
    CHECK(sqlstate("-c") == "42601");
    CHECK(sqlstate("-c a") == "42601");
    CHECK(sqlstate("-ca") == "42601");
    CHECK(sqlstate("--a") == "42601");
    CHECK(sqlstate("-c =1") == "42601");
    CHECK(sqlstate("--=1") == "42601");
    CHECK(sqlstate("--") == "42601");
    CHECK(sqlstate("-") == "42601");
    CHECK(sqlstate("-d 5") == "22023");
    CHECK(sqlstate("-e") == "22023");
    CHECK(sqlstate("-C data_directory") == "22023");
    CHECK(parse_options_parameter("--a").error().message == "--a requires a value");
    CHECK(parse_options_parameter("-c a").error().message == "-c a requires a value");
}

TEST_CASE("the protocol version: 3.0 and 3.2 are spoken, everything else is told what is") {
    const auto choose = [](std::uint16_t minor, std::vector<std::pair<std::string, std::string>> more = {}) {
        StartupMessage startup{3, minor, {{"user", "app"}}};
        for (auto& parameter : more) startup.parameters.push_back(std::move(parameter));
        return choose_protocol(startup);
    };
    CHECK(choose(0).minor == 0);
    CHECK_FALSE(choose(0).is_told);
    CHECK(choose(2).minor == 2);
    CHECK_FALSE(choose(2).is_told);
    CHECK(choose(1).minor == 0);  // skipped by PostgreSQL
    CHECK(choose(1).is_told);
    for (const std::uint16_t newer : {std::uint16_t(3), std::uint16_t(9999), std::uint16_t(65535)}) {
        CHECK(choose(newer).minor == 2);
        CHECK(choose(newer).is_told);
    }
    const ProtocolChoice options = choose(0, {{"_pq_.one", "1"}, {"application_name", "x"}, {"_pq_.two", ""}});
    CHECK(options.minor == 0);
    CHECK(options.is_told);
    CHECK(options.unknown_options == std::vector<std::string>{"_pq_.one", "_pq_.two"});
    CHECK(choose(2, {{"_pq_.one", "1"}}).minor == 2);
    CHECK(choose(2, {{"_pq_.one", "1"}}).is_told);
    CHECK(build_negotiate_protocol_version(2, {"_pq_.x"}) == std::string("v\0\0\0\x13\0\3\0\2\0\0\0\1_pq_.x\0", 20));
}
