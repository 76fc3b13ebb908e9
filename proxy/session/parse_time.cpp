#include "proxy/session/parse_time.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <span>

#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

// Reported by the server, and what it doesn't report.
constexpr std::array<std::string_view, 3> reported_names{"TimeZone", "DateStyle", "IntervalStyle"};
constexpr std::array<std::string_view, 9> all_names{"TimeZone",   "DateStyle", "IntervalStyle",          "array_nulls",    "transform_null_equals",
                                                    "lc_monetary", "xmloption", "timezone_abbreviations", "backslash_quote"};

bool has_strings(std::string_view sql) {
    if (sql.find('\'') != std::string_view::npos) return true;
    for (std::size_t at = sql.find('$'); at != std::string_view::npos; at = sql.find('$', at + 1)) {
        if (at + 1 < sql.size() && std::isdigit(static_cast<unsigned char>(sql[at + 1])) == 0) return true;  // it may quote
    }
    return false;
}

// Words are letters alone: 'today12:00' is a time of today.
bool has_word(std::string_view text, std::span<const std::string_view> words) {
    const auto is_letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
    std::size_t at = 0;
    while (at < text.size()) {
        if (!is_letter(text[at])) {
            ++at;
            continue;
        }
        std::size_t end = at;
        while (end < text.size() && is_letter(text[end])) ++end;
        const std::string_view word = text.substr(at, end - at);
        if (std::any_of(words.begin(), words.end(), [word](std::string_view one) { return equals_folded(word, one); })) return true;
        at = end;
    }
    return false;
}

// Some word of the string is one that PostgreSQL's date and time types take for the moment.
bool names_moment(std::string_view text) {
    constexpr std::array<std::string_view, 4> moments{"now", "today", "tomorrow", "yesterday"};
    return has_word(text, moments);
}

}  // namespace

ParseTime parse_time_of(std::string_view sql, SqlDialect dialect) {
    if (!has_strings(sql)) return ParseTime::nothing;
    ParseTime found = ParseTime::nothing;
    SqlLexer lexer(sql, dialect);
    for (lexer.next(); lexer.token().kind != SqlToken::Kind::end; lexer.next()) {
        const SqlToken& token = lexer.token();
        if (token.kind != SqlToken::Kind::string) continue;
        const bool is_spelt_otherwise = token.unicode || token.opaque || (token.escapes && token.text.find('\\') != std::string_view::npos);
        if (is_spelt_otherwise || names_moment(token.text)) return ParseTime::moment;
        found = ParseTime::settings;
    }
    return found;
}

std::string reading_text(const Settings* reported, const Settings& settings) {
    std::string text;
    for (const std::string_view name : reported_names) {
        const std::string* const value = reported == nullptr ? nullptr : find_setting(*reported, name);
        if (value != nullptr) text += *value;
        text += '\n';
    }
    for (const std::string_view name : all_names) {
        if (const std::string* const value = find_setting(settings, name)) text.append(name).append(1, '=').append(*value).append(1, '\n');
    }
    return text;
}

bool mentions_null(std::string_view sql) {
    constexpr std::array<std::string_view, 1> words{"null"};
    return has_word(sql, words);
}

bool reads_null_otherwise(const Settings& settings) {
    return find_setting(settings, "transform_null_equals") != nullptr;
}

}  // namespace pgporter
