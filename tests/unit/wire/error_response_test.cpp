#include "proxy/wire/error_response.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "proxy/wire/reader.hpp"

using namespace pgporter;

namespace {

// The body of one whole message, whose type and length must be right.
std::string body_of(const std::string& message, char type) {
    Reader reader(message);
    REQUIRE(reader.u8() == static_cast<unsigned char>(type));
    REQUIRE(reader.u32() == message.size() - 1);
    return std::string(reader.rest());
}

std::string fields(const std::vector<std::string>& texts) {
    std::string body;
    for (const std::string& text : texts) body.append(text).push_back('\0');
    body.push_back('\0');
    return body;
}

}  // namespace

TEST_CASE("an error's bytes") {
    CHECK(body_of(build_error("FATAL", "3D000", "no such tenant", "d", "h"), 'E') ==
          fields({"SFATAL", "VFATAL", "C3D000", "Mno such tenant", "Dd", "Hh"}));
    CHECK(body_of(build_error("ERROR", "0A000", "m"), 'E') == fields({"SERROR", "VERROR", "C0A000", "Mm"}));
    CHECK(body_of(build_notice("NOTICE", "00000", "m"), 'N') == fields({"SNOTICE", "VNOTICE", "C00000", "Mm"}));
}

TEST_CASE("what we build, we can read") {
    const ServerError error = parse_error(body_of(build_error("ERROR", "42601", "m", "d", "h"), 'E'));
    CHECK(error.severity == "ERROR");
    CHECK(error.sqlstate == "42601");
    CHECK(error.message == "m");
    CHECK(error.detail == "d");
    CHECK(error.hint == "h");
}

TEST_CASE("a text with a zero byte can't make a field") {
    const ServerError error = parse_error(body_of(build_error("ERROR", "42601", std::string("m\0Hforged", 9)), 'E'));
    CHECK(error.message == "m");
    CHECK(error.hint == "");
}

TEST_CASE("the severity that isn't localised counts") {
    CHECK(parse_error(fields({"SFEHLER", "VERROR"})).severity == "ERROR");
    CHECK(parse_error(fields({"VERROR", "SFEHLER"})).severity == "ERROR");
    CHECK(parse_error(fields({"SFEHLER"})).severity == "FEHLER");
}

TEST_CASE("missing and unknown fields") {
    const ServerError error = parse_error(fields({"Mm", "Fpostgres.c", "L12", "?new"}));
    CHECK(error.message == "m");
    CHECK(error.sqlstate == "");
    CHECK(parse_error("").message == "");
    CHECK(parse_error(std::string(1, '\0')).message == "");
}

TEST_CASE("an error cut anywhere gives the fields that are whole") {
    const std::string whole = fields({"SERROR", "C42601", "Mmessage", "Ddetail"});
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        const std::vector<char> copy(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        const ServerError error = parse_error({copy.data(), copy.size()});
        CHECK(error.severity == (size >= 7 ? "ERROR" : ""));
        CHECK(error.sqlstate == (size >= 14 ? "42601" : ""));
        CHECK(error.message == (size >= 23 ? "message" : ""));
        CHECK(error.detail == (size >= 31 ? "detail" : ""));
    }
}

TEST_CASE("only the message text is rewritten") {
    const std::string body =
        fields({"SERROR", "C26000", "Mprepared statement \"pp_1\" or \"pp_1\" missing", "Dpp_1", "Hpp_1"});
    CHECK(body_of(rewrite_error_text(body, "pp_1", "mine"), 'E') ==
          fields({"SERROR", "C26000", "Mprepared statement \"mine\" or \"mine\" missing", "Dpp_1", "Hpp_1"}));
    CHECK(body_of(rewrite_error_text(body, "\"pp_1\"", ""), 'E') ==
          fields({"SERROR", "C26000", "Mprepared statement  or  missing", "Dpp_1", "Hpp_1"}));
    CHECK(body_of(rewrite_error_text(body, "absent", "x"), 'E') == body);
    CHECK(body_of(rewrite_error_text(body, "", "x"), 'E') == body);
    // Replaced text isn't looked at again.
    CHECK(body_of(rewrite_error_text(fields({"Maa"}), "a", "aa"), 'E') == fields({"Maaaa"}));
    CHECK(body_of(rewrite_error_text(fields({"Ma"}), "a", std::string("x\0y", 3)), 'E') == fields({"Mx"}));
}

TEST_CASE("a cut-off body is rewritten as far as it goes") {
    const std::string whole = fields({"SERROR", "Mabc", "Dabc"});
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        const std::string out = body_of(rewrite_error_text(whole.substr(0, size), "abc", "xyz"), 'E');
        std::string expected = whole.substr(0, size);
        if (size >= 12) expected.replace(8, 3, "xyz");
        CHECK(out == expected);
    }
}
