// The examples are RFC 4013's, and what PostgreSQL 15 stores for the others (tests/integration/proxy/test_passwords.py asks it again).
#include "base/saslprep.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

TEST_CASE("passwords are prepared as PostgreSQL does") {
    const std::pair<std::string_view, std::string_view> rows[] = {
        {"", ""},
        {"plain\tASCII \x7f", "plain\tASCII \x7f"},                     // nothing is looked at
        {"I\u00adX", "IX"},                                                // mapped to nothing
        {"USER", "USER"},
        {"\u00aa", "a"},
        {"\u2168", "\0"},                                                  // a roman numeral: not known here
        {"\u00e4\u00f6\u00fc\u00df \u20ac", "\u00e4\u00f6\u00fc\u00df \u20ac"},
        {"a\u00a0b\u3000c\u200bd\u2003e", "a b c d e"},
        {"\u00bd\u00b2\u00b5", "1\u20442" "2\u03bc"},
        {"\u00a8", " \u0308"},
        {"\uff30\uff41\uff53\uff53\uff01", "Pass!"},
        {"\ufeff\u00adx\u200d", "x"},
        {"\u00ad", "\u00ad"},                                              // nothing would be left: as it is
        {"\u00e4\t", "\u00e4\t"},                                          // prohibited: as it is
        {"\u00bd\x01", "\u00bd\x01"},
        {"\xe4\xff", "\xe4\xff"},                                          // no UTF-8: as it is
        {"\u65e5\u672c\u8a9e\ud55c\uae00\u3042\u30ab\u30fc", "\u65e5\u672c\u8a9e\ud55c\uae00\u3042\u30ab\u30fc"},
        {"a\u0301", "\0"},                                                 // a combining mark: not known here
        {"\u05d0", "\0"},                                                  // written from right to left
        {"\U0001f600", "\0"},
    };
    for (const auto& [password, expected] : rows) {
        CAPTURE(password);
        const auto prepared = saslprep(password);
        const bool is_known = !(expected.empty() && !password.empty());
        REQUIRE(prepared.has_value() == is_known);
        if (is_known) CHECK(*prepared == expected);
    }
}
