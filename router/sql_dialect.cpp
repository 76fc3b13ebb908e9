#include "router/sql_dialect.hpp"

#include <algorithm>

namespace pgporter {
namespace {

unsigned char byte(std::string_view text, std::size_t at) {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : '\0';
}

// As PostgreSQL's pg_*_mblen() have it. Where the bytes are no character, PostgreSQL refuses the whole text.
std::size_t character_bytes(std::string_view text, std::size_t at, SqlEncoding encoding) {
    const unsigned char lead = byte(text, at);
    switch (encoding) {
        case SqlEncoding::utf8:
        case SqlEncoding::ascii_safe: return 1;
        case SqlEncoding::two_bytes: return 2;
        case SqlEncoding::gb18030: {
            const unsigned char second = byte(text, at + 1);
            return second >= '0' && second <= '9' ? 4 : 2;
        }
        case SqlEncoding::johab: return lead == 0x8f ? 3 : 2;
        case SqlEncoding::sjis:
        case SqlEncoding::sjis_to_utf8: return lead >= 0xa1 && lead <= 0xdf ? 1 : 2;
    }
    return 1;
}

}  // namespace

SqlDialect sql_dialect(std::string_view standard_conforming_strings, std::string_view client_encoding, std::string_view server_encoding) {
    SqlDialect dialect;
    dialect.standard_strings = standard_conforming_strings != "off";
    if (client_encoding == "SJIS") {
        dialect.encoding = SqlEncoding::sjis;
    } else if (client_encoding == "SHIFT_JIS_2004") {
        dialect.encoding = server_encoding == "EUC_JIS_2004" ? SqlEncoding::sjis : SqlEncoding::sjis_to_utf8;
    } else if (client_encoding == "BIG5" || client_encoding == "GBK" || client_encoding == "UHC") {
        dialect.encoding = SqlEncoding::two_bytes;
    } else if (client_encoding == "GB18030") {
        dialect.encoding = SqlEncoding::gb18030;
    } else if (client_encoding == "JOHAB") {
        dialect.encoding = SqlEncoding::johab;
    } else if (client_encoding != "UTF8" || server_encoding != "UTF8") {
        dialect.encoding = SqlEncoding::ascii_safe;
    }
    return dialect;
}

bool is_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool depends_on_dialect(std::string_view sql) {
    return sql.find('\\') != std::string_view::npos || !is_ascii(sql);
}

std::string masked(std::string_view sql, SqlEncoding encoding) {
    std::string out(sql);
    for (std::size_t at = 0; at < sql.size();) {
        if (byte(sql, at) < 0x80) {
            ++at;
            continue;
        }
        const std::size_t bytes = character_bytes(sql, at, encoding);
        for (std::size_t i = at; i < std::min(at + bytes, sql.size()); ++i) out[i] = static_cast<char>(byte(sql, i) | 0x80);
        if (encoding == SqlEncoding::sjis_to_utf8 && at + 1 < sql.size()) {  // full-width backslash and tilde
            if (byte(sql, at) == 0x81 && byte(sql, at + 1) == 0x5f) out[at + 1] = '\\';
            if (byte(sql, at) == 0x81 && byte(sql, at + 1) == 0xb0) out[at + 1] = '~';
        }
        at += bytes;
    }
    return out;
}

}  // namespace pgporter
