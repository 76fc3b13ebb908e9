#include "proxy/wire/messages.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "proxy/wire/message_type.hpp"

using namespace pgporter;

namespace {

template <std::size_t size>
std::string bytes(const char (&text)[size]) {
    return std::string(text, size - 1);
}

std::string body_of(const std::string& message) {
    return message.substr(5);
}

// Calls `parse` with every shorter body; each is a copy of exactly its size, so a sanitizer sees any look behind its
// end.
template <class Parse>
void refuses_every_cut(const std::string& body, Parse parse) {
    for (std::size_t size = 0; size < body.size(); ++size) {
        INFO(size);
        const std::vector<char> copy(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK_FALSE(parse(std::string_view(copy.data(), copy.size())).has_value());
    }
}

}  // namespace

TEST_CASE("messages to clients, byte by byte") {
    CHECK(message::ready_for_query('T') == bytes("Z\0\0\0\5T"));
    CHECK(message::parameter_status("a", "b") == bytes("S\0\0\0\x08"
                                                       "a\0b\0"));
    CHECK(message::backend_key_data(0x01020304, "\x05\x06\x07\x08") == bytes("K\0\0\0\x0c\1\2\3\4\5\6\7\x08"));
    CHECK(message::authentication_ok() == bytes("R\0\0\0\x08\0\0\0\0"));
    CHECK(message::authentication_sasl({"SCRAM-SHA-256"}) == bytes("R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"));
    CHECK(message::authentication_sasl_continue("r=x") == bytes("R\0\0\0\x0b\0\0\0\x0br=x"));
    CHECK(message::authentication_sasl_final("v=x") == bytes("R\0\0\0\x0b\0\0\0\x0cv=x"));
    CHECK(message::command_complete("SET") == bytes("C\0\0\0\x08SET\0"));
    CHECK(message::parse_complete() == bytes("1\0\0\0\4"));
    CHECK(message::bind_complete() == bytes("2\0\0\0\4"));
    CHECK(message::close_complete() == bytes("3\0\0\0\4"));
    CHECK(message::no_data() == bytes("n\0\0\0\4"));
    CHECK(message::empty_query_response() == bytes("I\0\0\0\4"));
    CHECK(message::parameter_description({25, 0x01020304}) == bytes("t\0\0\0\x0e\0\2\0\0\0\x19\1\2\3\4"));
    CHECK(message::row_description({{"n", 20}}) ==
          bytes("T\0\0\0\x1a\0\1n\0\0\0\0\0\0\0\0\0\0\x14\xff\xff\xff\xff\xff\xff\0\0"));
    CHECK(message::data_row({"ab", std::nullopt, ""}) == bytes("D\0\0\0\x14\0\3\0\0\0\2ab\xff\xff\xff\xff\0\0\0\0"));
}

TEST_CASE("messages to servers, byte by byte") {
    CHECK(message::query("x") == bytes("Q\0\0\0\6x\0"));
    CHECK(message::parse("s", "x", {25}) == bytes("P\0\0\0\x0es\0x\0\0\1\0\0\0\x19"));
    CHECK(message::parse("", "x") == bytes("P\0\0\0\x09\0x\0\0\0"));
    CHECK(message::bind_text("p", "s", {"v", std::nullopt}) ==
          bytes("B\0\0\0\x17p\0s\0\0\0\0\2\0\0\0\1v\xff\xff\xff\xff\0\0"));
    CHECK(message::describe('S', "s") == bytes("D\0\0\0\7Ss\0"));
    CHECK(message::execute("", 0) == bytes("E\0\0\0\x09\0\0\0\0\0"));
    CHECK(message::execute("p", 256) == bytes("E\0\0\0\x0ap\0\0\0\1\0"));
    CHECK(message::close('P', "") == bytes("C\0\0\0\6P\0"));
    CHECK(message::sync() == bytes("S\0\0\0\4"));
    CHECK(message::flush() == bytes("H\0\0\0\4"));
    CHECK(message::terminate() == bytes("X\0\0\0\4"));
    CHECK(message::copy_fail("no") == bytes("f\0\0\0\7no\0"));
    CHECK(message::sasl_initial_response("M", "abc") == bytes("p\0\0\0\x0dM\0\0\0\0\3abc"));
    CHECK(message::sasl_response("abc") == bytes("p\0\0\0\7abc"));
    CHECK(message::password_message("pw") == bytes("p\0\0\0\7pw\0"));
}

TEST_CASE("type codes are those of the protocol") {
    CHECK(code(FrontendType::close) == 'C');
    CHECK(code(FrontendType::copy_done) == 'c');
    CHECK(code(FrontendType::function_call) == 'F');
    CHECK(code(BackendType::command_complete) == 'C');
    CHECK(code(BackendType::parameter_description) == 't');
    CHECK(code(BackendType::copy_both) == 'W');
    CHECK(code(BackendType::function_call_response) == 'V');
    CHECK(code(BackendType::notification) == 'A');
}

TEST_CASE("rows") {
    const std::string body = body_of(message::data_row({"ab", std::nullopt, ""}));
    const auto row = parse_data_row(body);
    REQUIRE(row.has_value());
    CHECK(*row == std::vector<std::optional<std::string_view>>{"ab", std::nullopt, ""});
    CHECK(parse_data_row(bytes("\0\0")).value().empty());
    refuses_every_cut(body, parse_data_row);
    CHECK_FALSE(parse_data_row(body + "x"));
    CHECK_FALSE(parse_data_row(bytes("\xff\xff")));
    CHECK_FALSE(parse_data_row(bytes("\0\1\x80\0\0\0")));
    CHECK_FALSE(parse_data_row(bytes("\0\1\xff\xff\xff\xfe")));
    CHECK_FALSE(parse_data_row(bytes("\0\1\0\0\0\2a")));
}

TEST_CASE("reported parameters") {
    const std::string body = body_of(message::parameter_status("TimeZone", ""));
    CHECK(parse_parameter_status(body) == std::pair<std::string_view, std::string_view>("TimeZone", ""));
    refuses_every_cut(body, parse_parameter_status);
    CHECK_FALSE(parse_parameter_status(body + "x"));
}

TEST_CASE("cancel keys") {
    for (const std::size_t size : {std::size_t{4}, std::size_t{32}, std::size_t{256}}) {
        const std::string body = body_of(message::backend_key_data(7, std::string(size, 'k')));
        const auto data = parse_backend_key_data(body);
        REQUIRE(data.has_value());
        CHECK(data->pid == 7);
        CHECK(data->key == std::string(size, 'k'));
    }
    refuses_every_cut(bytes("\0\0\0\7kkkk"), parse_backend_key_data);
    CHECK_FALSE(parse_backend_key_data(std::string(4 + 257, 'k')));
}

TEST_CASE("command tags") {
    CHECK(parse_command_tag(bytes("INSERT 0 1\0")) == "INSERT 0 1");
    refuses_every_cut(bytes("SELECT 1\0"), parse_command_tag);
    CHECK_FALSE(parse_command_tag(bytes("SELECT 1\0x")));
}

TEST_CASE("SASLInitialResponse") {
    const std::string body = body_of(message::sasl_initial_response("SCRAM-SHA-256", "n,,n=,r=x"));
    const auto response = parse_sasl_initial_response(body);
    REQUIRE(response.has_value());
    CHECK(response->mechanism == "SCRAM-SHA-256");
    CHECK(response->data == "n,,n=,r=x");
    refuses_every_cut(body, parse_sasl_initial_response);
    CHECK_FALSE(parse_sasl_initial_response(body + "x"));
    CHECK_FALSE(parse_sasl_initial_response(bytes("M\0\x80\0\0\0abc")));
    CHECK_FALSE(
        parse_sasl_initial_response(bytes("M\0\xff\xff\xff\xff"
                                          "abc")));
    const auto none = parse_sasl_initial_response(bytes("M\0\xff\xff\xff\xff"));
    REQUIRE(none.has_value());
    CHECK_FALSE(none->data.has_value());
}
