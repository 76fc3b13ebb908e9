#include "router/sql_lexer.hpp"

#include <algorithm>
#include <array>

namespace pgporter {
namespace {

// ---- characters

enum CharClass : std::uint8_t { other_char, space_char, word_start_char, digit_char, dollar_char };

// As in PostgreSQL's lexer: bytes from 0x80 on are letters, '$' and digits may follow in a word.
constexpr std::array<std::uint8_t, 256> make_classes() {
    std::array<std::uint8_t, 256> classes{};
    for (const char c : {' ', '\t', '\n', '\r', '\f', '\v'}) classes[static_cast<unsigned char>(c)] = space_char;
    for (int c = 'a'; c <= 'z'; ++c) classes[static_cast<std::size_t>(c)] = word_start_char;
    for (int c = 'A'; c <= 'Z'; ++c) classes[static_cast<std::size_t>(c)] = word_start_char;
    for (std::size_t c = 0x80; c < 0x100; ++c) classes[c] = word_start_char;
    for (int c = '0'; c <= '9'; ++c) classes[static_cast<std::size_t>(c)] = digit_char;
    classes['_'] = word_start_char;
    classes['$'] = dollar_char;
    return classes;
}

constexpr std::array<std::uint8_t, 256> classes = make_classes();

std::uint8_t class_of(char c) {
    return classes[static_cast<unsigned char>(c)];
}
bool is_word_char(char c) {
    return class_of(c) >= word_start_char;
}
char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

// ---- words that mean something here

// A word of up to eight letters as one number, in lower case: most words of most statements are looked up by one
// comparison. Setting bit 5 makes letters small; what it does to '_' and '$' collides with no letter.
constexpr std::uint64_t packed(std::string_view word) {
    std::uint64_t value = 0;
    for (const char c : word) value = value << 8 | static_cast<unsigned char>(c | 0x20);
    return value;
}

SqlKeyword short_keyword_of(std::string_view word) {
    switch (packed(word)) {
        case packed("all"):
            return SqlKeyword::all;
        case packed("call"):
            return SqlKeyword::call;
        case packed("create"):
            return SqlKeyword::create;
        case packed("declare"):
            return SqlKeyword::declare;
        case packed("discard"):
            return SqlKeyword::discard;
        case packed("do"):
            return SqlKeyword::do_;
        case packed("global"):
            return SqlKeyword::global;
        case packed("hold"):
            return SqlKeyword::hold;
        case packed("insert"):
            return SqlKeyword::insert;
        case packed("into"):
            return SqlKeyword::into;
        case packed("listen"):
            return SqlKeyword::listen;
        case packed("local"):
            return SqlKeyword::local;
        case packed("merge"):
            return SqlKeyword::merge;
        case packed("or"):
            return SqlKeyword::or_;
        case packed("prepare"):
            return SqlKeyword::prepare;
        case packed("replace"):
            return SqlKeyword::replace;
        case packed("reset"):
            return SqlKeyword::reset;
        case packed("schema"):
            return SqlKeyword::schema;
        case packed("session"):
            return SqlKeyword::session;
        case packed("set"):
            return SqlKeyword::set;
        case packed("temp"):
            return SqlKeyword::temporary;
        case packed("update"):
            return SqlKeyword::update;
        case packed("with"):
            return SqlKeyword::with;
        default:
            return SqlKeyword::none;
    }
}

SqlKeyword long_keyword_of(std::string_view word) {
    switch (word.size()) {
        case 9:
            return equals_folded(word, "temporary") ? SqlKeyword::temporary : SqlKeyword::none;
        case 10:
            return equals_folded(word, "deallocate") ? SqlKeyword::deallocate : SqlKeyword::none;
        case 11:
            if (equals_folded(word, "transaction")) return SqlKeyword::transaction;
            return equals_folded(word, "constraints") ? SqlKeyword::constraints : SqlKeyword::none;
        case 13:
            return equals_folded(word, "authorization") ? SqlKeyword::authorization : SqlKeyword::none;
        default:
            return SqlKeyword::none;
    }
}

// What a name means; `name` as PostgreSQL would compare it but for the case of unquoted letters, which doesn't matter
// here.
SqlKeyword name_of(std::string_view name) {
    if (name.size() < 7) return SqlKeyword::none;
    if (lower(name[0]) == 's') return equals_folded(name, "set_config") ? SqlKeyword::set_config : SqlKeyword::none;
    if (lower(name[0]) != 'p' || name[2] != '_') return SqlKeyword::none;
    if (equals_folded(name.substr(0, 7), "pg_temp") && (name.size() == 7 || name[7] == '_')) return SqlKeyword::pg_temp;
    if (equals_folded(name, "pg_settings")) return SqlKeyword::pg_settings;
    if (equals_folded(name, "pg_advisory_lock") || equals_folded(name, "pg_advisory_lock_shared") ||
        equals_folded(name, "pg_try_advisory_lock") || equals_folded(name, "pg_try_advisory_lock_shared")) {
        return SqlKeyword::advisory_lock;
    }
    return SqlKeyword::none;
}

// For each first letter, the lengths (as bits) that a word that means something can have. One look here is all that
// most words of most statements cost.
constexpr std::array<std::uint32_t, 256> make_lengths() {
    std::array<std::uint32_t, 256> lengths{};
    constexpr std::string_view words[] = {
        "all",       "authorization", "call",    "constraints", "create",     "deallocate", "declare",    "discard",
        "do",        "global",        "hold",    "insert",      "into",       "listen",     "local",      "merge",
        "or",        "prepare",       "replace", "reset",       "schema",     "session",    "set",        "temp",
        "temporary", "transaction",   "update",  "with",        "set_config", "pg_temp",    "pg_settings"};
    for (const std::string_view word : words) lengths[static_cast<unsigned char>(word[0])] |= 1U << word.size();
    lengths['p'] |= ~0U << 7;  // pg_temp_<number> and the advisory locks
    for (std::size_t c = 'A'; c <= 'Z'; ++c) lengths[c] = lengths[c | 0x20];
    return lengths;
}

constexpr std::array<std::uint32_t, 256> lengths = make_lengths();

SqlKeyword keyword_of(std::string_view word) {
    const std::size_t length_bit = std::min<std::size_t>(word.size(), 31);
    if ((lengths[static_cast<unsigned char>(word[0])] >> length_bit & 1) == 0) return SqlKeyword::none;
    const SqlKeyword keyword = word.size() <= 8 ? short_keyword_of(word) : long_keyword_of(word);
    return keyword == SqlKeyword::none ? name_of(word) : keyword;
}

}  // namespace

bool equals_folded(std::string_view word, std::string_view name) {
    if (word.size() != name.size()) return false;
    for (std::size_t i = 0; i < name.size(); ++i) {
        if (lower(word[i]) != name[i]) return false;
    }
    return true;
}

std::string folded(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = lower(c);
    return out;
}

std::optional<std::string> token_value(const SqlToken& token) {
    if (token.kind == SqlToken::Kind::word) return folded(token.text);
    if (token.kind != SqlToken::Kind::quoted && token.kind != SqlToken::Kind::string) return std::nullopt;
    if (token.unicode || token.opaque) return std::nullopt;
    if (token.plain) return std::string(token.text);
    if (token.escapes && token.text.find('\\') != std::string_view::npos) return std::nullopt;
    const char quote = token.kind == SqlToken::Kind::quoted ? '"' : '\'';
    std::string value;
    for (std::size_t i = 0; i < token.text.size(); ++i) {
        value += token.text[i];
        if (token.text[i] == quote) ++i;  // doubled
    }
    return value;
}

void SqlLexer::next() {
    skip_space_and_comments();
    token_.keyword = SqlKeyword::none;
    token_.plain = true;
    token_.unicode = false;
    token_.escapes = false;
    token_.opaque = false;
    token_.character = 0;
    token_.text = {};
    token_.begin = at_;
    if (at_ == sql_.size()) {
        token_.kind = SqlToken::Kind::end;
        return;
    }
    const char c = sql_[at_];
    switch (class_of(c)) {
        case word_start_char:
            return word();
        case digit_char:
            return number();
        case dollar_char:
            return dollar();
        default:
            break;
    }
    ++at_;
    if (c == '\'') return standard_strings_ ? quoted_until('\'', SqlToken::Kind::string) : escape_string();
    if (c == '"') return quoted_name();
    token_.kind = c == ';' ? SqlToken::Kind::semicolon : SqlToken::Kind::other;
    token_.character = c;
}

bool SqlLexer::begins_setting_name() const {
    SqlLexer ahead(sql_.substr(at_), {standard_strings_, SqlEncoding::ascii_safe});
    ahead.next();
    const SqlToken& token = ahead.token();
    if (token.kind == SqlToken::Kind::other) return token.character == '.' || token.character == '=';
    return token.kind == SqlToken::Kind::word && equals_folded(token.text, "to");
}

void SqlLexer::skip_space_and_comments() {
    for (;;) {
        const std::string_view rest = sql_.substr(at_);
        std::size_t spaces = 0;
        while (spaces < rest.size() && class_of(rest[spaces]) == space_char) ++spaces;
        at_ += spaces;
        if (at_ == sql_.size()) return;
        const char c = sql_[at_];
        if (c == '-' && peek(1) == '-') {
            at_ = std::min(sql_.find_first_of("\r\n", at_), sql_.size());
        } else if (c == '/' && peek(1) == '*') {
            skip_comment();
        } else {
            return;
        }
    }
}

void SqlLexer::skip_comment() {
    std::size_t depth = 0;
    while (at_ < sql_.size()) {
        if (sql_[at_] == '/' && peek(1) == '*') {
            ++depth;
            at_ += 2;
        } else if (sql_[at_] == '*' && peek(1) == '/') {
            at_ += 2;
            if (--depth == 0) return;
        } else {
            ++at_;
        }
    }
    broken_ = true;
}

void SqlLexer::word() {
    // Locals, here and below: a char may alias a member, which would be stored and loaded again for each letter.
    const char* const begin = sql_.data() + at_;
    const char* const end = sql_.data() + sql_.size();
    const char* letter = begin + 1;
    while (letter != end && is_word_char(*letter)) ++letter;
    const std::string_view text(begin, static_cast<std::size_t>(letter - begin));
    at_ += text.size();
    if (text.size() == 1 && at_ < sql_.size()) {
        if (lower(text[0]) == 'e' && sql_[at_] == '\'') {
            ++at_;
            return escape_string();
        }
        if (!standard_strings_ && (lower(text[0]) == 'b' || lower(text[0]) == 'x') && sql_[at_] == '\'') {
            ++at_;
            quoted_until('\'', SqlToken::Kind::string);  // bits know no escapes
            token_.plain = false;
            token_.opaque = true;
            return;
        }
        if (lower(text[0]) == 'u' && sql_[at_] == '&' && (peek(1) == '\'' || peek(1) == '"')) return unicode_quoted();
    }
    token_.kind = SqlToken::Kind::word;
    token_.keyword = keyword_of(text);
    token_.text = text;
}

void SqlLexer::unicode_quoted() {
    const char quote = peek(1);
    at_ += 2;
    quoted_until(quote, quote == '"' ? SqlToken::Kind::quoted : SqlToken::Kind::string);
    token_.plain = false;
    token_.unicode = true;
}

void SqlLexer::quoted_name() {
    quoted_until('"', SqlToken::Kind::quoted);
    token_.keyword = name_of(token_.text);
}

void SqlLexer::quoted_until(char quote, SqlToken::Kind kind) {
    token_.kind = kind;
    const std::size_t begin = at_;
    for (;;) {
        const std::size_t end = sql_.find(quote, at_);
        if (end == std::string_view::npos) return unterminated();
        at_ = end + 1;
        token_.text = sql_.substr(begin, end - begin);
        if (peek(0) == quote) {
            ++at_;
        } else if (kind == SqlToken::Kind::string && goes_on()) {
            token_.opaque = true;
        } else {
            return;
        }
        token_.plain = false;
    }
}

void SqlLexer::escape_string() {
    token_.kind = SqlToken::Kind::string;
    token_.escapes = true;
    const std::size_t begin = at_;
    while (at_ < sql_.size()) {
        const char c = sql_[at_++];
        if (c == '\\') {
            token_.plain = false;
            if (at_ < sql_.size()) ++at_;
        } else if (c == '\'') {
            token_.text = sql_.substr(begin, at_ - 1 - begin);
            if (peek(0) == '\'') {
                ++at_;
            } else if (goes_on()) {
                token_.opaque = true;
            } else {
                return;
            }
            token_.plain = false;
        }
    }
    unterminated();
}

bool SqlLexer::goes_on() {
    bool has_newline = false;
    for (std::size_t at = at_; at < sql_.size();) {
        const char c = sql_[at];
        if (c == '\'' && has_newline) {
            at_ = at + 1;
            return true;
        }
        if (class_of(c) == space_char) {
            has_newline |= c == '\n' || c == '\r';
            ++at;
        } else if (c == '-' && sql_.substr(at).starts_with("--")) {
            at = std::min(sql_.find_first_of("\r\n", at), sql_.size());
        } else {
            return false;
        }
    }
    return false;
}

void SqlLexer::number() {
    const std::size_t begin = at_;
    while (at_ < sql_.size() && (class_of(sql_[at_]) == digit_char || sql_[at_] == '.' || sql_[at_] == '_')) ++at_;
    token_.kind = SqlToken::Kind::other;
    token_.text = sql_.substr(begin, at_ - begin);
}

void SqlLexer::dollar() {
    token_.kind = SqlToken::Kind::other;
    std::size_t end = at_ + 1;
    if (end < sql_.size() && class_of(sql_[end]) == digit_char) {
        while (end < sql_.size() && class_of(sql_[end]) == digit_char) ++end;
        token_.text = sql_.substr(at_, end - at_);
        at_ = end;
        return;
    }
    while (end < sql_.size() && (class_of(sql_[end]) == word_start_char || class_of(sql_[end]) == digit_char)) ++end;
    if (end == sql_.size() || sql_[end] != '$') {
        ++at_;
        token_.character = '$';
        return;
    }
    const std::string_view tag = sql_.substr(at_, end + 1 - at_);
    const std::size_t begin = end + 1;
    const std::size_t close = sql_.find(tag, begin);
    if (close == std::string_view::npos) return unterminated();
    at_ = close + tag.size();
    token_.kind = SqlToken::Kind::string;
    token_.text = sql_.substr(begin, close - begin);
}

void SqlLexer::unterminated() {
    broken_ = true;
    at_ = sql_.size();
    token_.kind = SqlToken::Kind::end;
}

}  // namespace pgporter
