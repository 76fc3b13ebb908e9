// SqlLexer: cuts an SQL text into the tokens that statement_scan and session_statement look at. Owned by one scan, on its thread. It knows
// comments, strings of all spellings, quoted names and dollar quotes as PostgreSQL's lexer does in the session's dialect; it doesn't know the
// grammar. Linear in the text, no recursion, no allocation (but for encodings that aren't safe); its tokens are views into the text, or into
// the lexer's masked copy of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "router/sql_dialect.hpp"

namespace pgporter {

// Words that mean something to statement_scan.
enum class SqlKeyword : std::uint8_t {
    none,
    all,
    authorization,
    call,
    constraints,
    create,
    deallocate,
    declare,
    discard,
    do_,
    global,
    hold,
    insert,
    into,
    listen,
    local,
    merge,
    or_,
    prepare,
    replace,
    reset,
    schema,
    session,
    set,
    temporary,
    transaction,
    update,
    with,
    // names, which may be quoted too
    advisory_lock,
    pg_settings,
    pg_temp,
    set_config
};

struct SqlToken {
    enum class Kind : std::uint8_t { end, semicolon, word, quoted, string, other };

    Kind kind = Kind::end;
    SqlKeyword keyword = SqlKeyword::none;
    bool plain = true;      // quoted, string: `text` is the value itself, without escapes or doubled quotes
    bool unicode = false;   // quoted, string: written with U&
    bool escapes = false;   // string: backslashes mean something
    bool opaque = false;    // string: of several parts (a quote goes on behind a newline), or of bits; `text` isn't its value
    char character = 0;     // other: the character, or 0 for numbers and parameters
    std::string_view text;  // word, number, parameter: as written; quoted, string: between the quotes
    std::size_t begin = 0;  // where it starts in the text

    [[nodiscard]] bool at_end() const { return kind == Kind::end || kind == Kind::semicolon; }
    [[nodiscard]] bool is_name() const { return kind == Kind::word || kind == Kind::quoted; }
};

// `name` is in lower case; the case of ASCII letters in `word` doesn't matter.
[[nodiscard]] bool equals_folded(std::string_view word, std::string_view name);
// ASCII letters in lower case, as PostgreSQL folds what isn't quoted.
[[nodiscard]] std::string folded(std::string_view text);

// The value of a quoted name or a string, or of a word folded as an identifier; nullopt: it needs an unescaping that isn't done here.
[[nodiscard]] std::optional<std::string> token_value(const SqlToken& token);

// Keeps its token and writes it field by field: handing it out by value costs more than finding it.
class SqlLexer {
  public:
    explicit SqlLexer(std::string_view sql, SqlDialect dialect = {})
        : masked_(dialect.is_masking() && !is_ascii(sql) ? masked(sql, dialect.encoding) : std::string()),
          sql_(masked_.empty() ? sql : std::string_view(masked_)),
          standard_strings_(dialect.standard_strings) {}
    SqlLexer(const SqlLexer&) = delete;
    SqlLexer& operator=(const SqlLexer&) = delete;

    [[nodiscard]] const SqlToken& token() const { return token_; }

    // Goes on to the next token; at the end of the text, kind end again and again.
    void next();
    // Behind the last token.
    [[nodiscard]] std::size_t position() const { return at_; }
    // The word just read is a setting's name or the first part of one, whatever else such a word means (SET session.user_id = ..).
    [[nodiscard]] bool begins_setting_name() const;
    // A comment, string or quoted name didn't end.
    [[nodiscard]] bool broken() const { return broken_; }

  private:
    [[nodiscard]] char peek(std::size_t ahead) const { return at_ + ahead < sql_.size() ? sql_[at_ + ahead] : '\0'; }

    void skip_space_and_comments();
    void skip_comment();
    void word();
    void unicode_quoted();
    void quoted_name();
    // Behind the opening quote; a doubled quote stands for itself.
    void quoted_until(char quote, SqlToken::Kind kind);
    void escape_string();
    // Behind a closing quote: white space with a newline in it, and another quote. Then it is the same string still.
    [[nodiscard]] bool goes_on();
    // Letters behind the digits are a word of their own, as they are for PostgreSQL before 15; later ones refuse them.
    void number();
    // $1, $$text$$ or $tag$text$tag$.
    void dollar();
    // PostgreSQL refuses the whole text, whatever stands before.
    void unterminated();

    std::string masked_;
    std::string_view sql_;
    bool standard_strings_;
    std::size_t at_ = 0;
    SqlToken token_;
    bool broken_ = false;
};

}  // namespace pgporter
