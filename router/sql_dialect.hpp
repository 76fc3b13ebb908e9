// SqlDialect: in which spelling PostgreSQL reads the text of a statement: whether a backslash escapes in a plain string, and how the client's
// encoding makes characters of bytes. Pure values; any thread. It converts nothing: of text that isn't UTF-8 only the ASCII is
// understood, and masked() keeps the bytes of longer characters from being taken for ASCII.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pgporter {

enum class SqlEncoding : std::uint8_t {
    utf8,          // of the client and of the server
    ascii_safe,    // a byte below 0x80 is always an ASCII character
    two_bytes,     // BIG5, GBK, UHC: the second byte may look like ASCII
    gb18030,       // two or four bytes
    johab,         // two or three
    sjis,          // one (katakana) or two
    sjis_to_utf8,  // SHIFT_JIS_2004 where the server makes UTF-8 of it: two of its characters become ASCII ones
};

struct SqlDialect {
    bool standard_strings = true;  // standard_conforming_strings
    SqlEncoding encoding = SqlEncoding::utf8;
    friend bool operator==(const SqlDialect&, const SqlDialect&) = default;

    // Does the text's meaning depend on the dialect at all?
    [[nodiscard]] bool is_masking() const { return encoding > SqlEncoding::ascii_safe; }
};

// As PostgreSQL reports the parameters.
[[nodiscard]] SqlDialect sql_dialect(std::string_view standard_conforming_strings, std::string_view client_encoding,
                                     std::string_view server_encoding);

[[nodiscard]] bool is_ascii(std::string_view text);
// Reads otherwise in some other dialect.
[[nodiscard]] bool depends_on_dialect(std::string_view sql);
// The text of the same length where every byte of a longer character is above 0x7f.
[[nodiscard]] std::string masked(std::string_view sql, SqlEncoding encoding);

}  // namespace pgporter
