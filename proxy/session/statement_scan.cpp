#include "proxy/session/statement_scan.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

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

// `name` is in lower case.
bool is(std::string_view word, std::string_view name) {
    if (word.size() != name.size()) return false;
    for (std::size_t i = 0; i < name.size(); ++i) {
        if (lower(word[i]) != name[i]) return false;
    }
    return true;
}

std::string lowered(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = lower(c);
    return out;
}

// ---- words that mean something here

enum class Keyword : std::uint8_t {
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

// A word of up to eight letters as one number, in lower case: most words of most statements are looked up by one
// comparison. Setting bit 5 makes letters small; what it does to '_' and '$' collides with no letter.
constexpr std::uint64_t packed(std::string_view word) {
    std::uint64_t value = 0;
    for (const char c : word) value = value << 8 | static_cast<unsigned char>(c | 0x20);
    return value;
}

Keyword short_keyword_of(std::string_view word) {
    switch (packed(word)) {
        case packed("all"):
            return Keyword::all;
        case packed("call"):
            return Keyword::call;
        case packed("create"):
            return Keyword::create;
        case packed("declare"):
            return Keyword::declare;
        case packed("discard"):
            return Keyword::discard;
        case packed("do"):
            return Keyword::do_;
        case packed("global"):
            return Keyword::global;
        case packed("hold"):
            return Keyword::hold;
        case packed("insert"):
            return Keyword::insert;
        case packed("into"):
            return Keyword::into;
        case packed("listen"):
            return Keyword::listen;
        case packed("local"):
            return Keyword::local;
        case packed("merge"):
            return Keyword::merge;
        case packed("or"):
            return Keyword::or_;
        case packed("prepare"):
            return Keyword::prepare;
        case packed("replace"):
            return Keyword::replace;
        case packed("reset"):
            return Keyword::reset;
        case packed("schema"):
            return Keyword::schema;
        case packed("session"):
            return Keyword::session;
        case packed("set"):
            return Keyword::set;
        case packed("temp"):
            return Keyword::temporary;
        case packed("update"):
            return Keyword::update;
        case packed("with"):
            return Keyword::with;
        default:
            return Keyword::none;
    }
}

Keyword long_keyword_of(std::string_view word) {
    switch (word.size()) {
        case 9:
            return is(word, "temporary") ? Keyword::temporary : Keyword::none;
        case 10:
            return is(word, "deallocate") ? Keyword::deallocate : Keyword::none;
        case 11:
            if (is(word, "transaction")) return Keyword::transaction;
            return is(word, "constraints") ? Keyword::constraints : Keyword::none;
        case 13:
            return is(word, "authorization") ? Keyword::authorization : Keyword::none;
        default:
            return Keyword::none;
    }
}

// What a name means; `name` as PostgreSQL would compare it but for the case of unquoted letters, which doesn't matter
// here.
Keyword name_of(std::string_view name) {
    if (name.size() < 7) return Keyword::none;
    if (lower(name[0]) == 's') return is(name, "set_config") ? Keyword::set_config : Keyword::none;
    if (lower(name[0]) != 'p' || name[2] != '_') return Keyword::none;
    if (is(name.substr(0, 7), "pg_temp") && (name.size() == 7 || name[7] == '_')) return Keyword::pg_temp;
    if (is(name, "pg_settings")) return Keyword::pg_settings;
    if (is(name, "pg_advisory_lock") || is(name, "pg_advisory_lock_shared") || is(name, "pg_try_advisory_lock") ||
        is(name, "pg_try_advisory_lock_shared")) {
        return Keyword::advisory_lock;
    }
    return Keyword::none;
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

Keyword keyword_of(std::string_view word) {
    const std::size_t length_bit = std::min<std::size_t>(word.size(), 31);
    if ((lengths[static_cast<unsigned char>(word[0])] >> length_bit & 1) == 0) return Keyword::none;
    const Keyword keyword = word.size() <= 8 ? short_keyword_of(word) : long_keyword_of(word);
    return keyword == Keyword::none ? name_of(word) : keyword;
}

// ---- tokens

struct Token {
    enum class Kind : std::uint8_t { end, semicolon, word, quoted, string, other };

    Kind kind = Kind::end;
    Keyword keyword = Keyword::none;
    bool plain = true;      // quoted, string: `text` is the value itself, without escapes or doubled quotes
    bool unicode = false;   // quoted: written with U&
    char character = 0;     // other: the character, or 0 for numbers and parameters
    std::string_view text;  // word: as written; quoted, string: between the quotes

    [[nodiscard]] bool at_end() const { return kind == Kind::end || kind == Kind::semicolon; }
    [[nodiscard]] bool is_name() const { return kind == Kind::word || kind == Kind::quoted; }
};

// Keeps its token and writes it field by field: handing it out by value costs more than finding it.
class Lexer {
  public:
    explicit Lexer(std::string_view sql) : sql_(sql) {}

    [[nodiscard]] const Token& token() const { return token_; }

    void next() {
        skip_space_and_comments();
        token_.keyword = Keyword::none;
        token_.plain = true;
        token_.unicode = false;
        token_.character = 0;
        token_.text = {};
        if (at_ == sql_.size()) {
            token_.kind = Token::Kind::end;
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
        if (c == '\'') return quoted_until('\'', Token::Kind::string);
        if (c == '"') return quoted_name();
        token_.kind = c == ';' ? Token::Kind::semicolon : Token::Kind::other;
        token_.character = c;
    }

    // A comment, string or quoted name didn't end.
    [[nodiscard]] bool broken() const { return broken_; }

  private:
    [[nodiscard]] char peek(std::size_t ahead) const { return at_ + ahead < sql_.size() ? sql_[at_ + ahead] : '\0'; }

    void skip_space_and_comments() {
        while (at_ < sql_.size()) {
            const char c = sql_[at_];
            if (class_of(c) == space_char) {
                ++at_;
            } else if (c == '-' && peek(1) == '-') {
                at_ = std::min(sql_.find_first_of("\r\n", at_), sql_.size());
            } else if (c == '/' && peek(1) == '*') {
                skip_comment();
            } else {
                return;
            }
        }
    }

    void skip_comment() {
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

    void word() {
        const std::size_t begin = at_;
        while (at_ < sql_.size() && is_word_char(sql_[at_])) ++at_;
        const std::string_view text = sql_.substr(begin, at_ - begin);
        if (text.size() == 1 && at_ < sql_.size()) {
            if (lower(text[0]) == 'e' && sql_[at_] == '\'') {
                ++at_;
                return escape_string();
            }
            if (lower(text[0]) == 'u' && sql_[at_] == '&' && (peek(1) == '\'' || peek(1) == '"'))
                return unicode_quoted();
        }
        token_.kind = Token::Kind::word;
        token_.keyword = keyword_of(text);
        token_.text = text;
    }

    void unicode_quoted() {
        const char quote = peek(1);
        at_ += 2;
        quoted_until(quote, quote == '"' ? Token::Kind::quoted : Token::Kind::string);
        token_.plain = false;
        token_.unicode = true;
    }

    void quoted_name() {
        quoted_until('"', Token::Kind::quoted);
        token_.keyword = name_of(token_.text);
    }

    // Behind the opening quote; a doubled quote stands for itself.
    void quoted_until(char quote, Token::Kind kind) {
        token_.kind = kind;
        const std::size_t begin = at_;
        for (;;) {
            const std::size_t end = sql_.find(quote, at_);
            if (end == std::string_view::npos) return unterminated();
            at_ = end + 1;
            if (peek(0) != quote) {
                token_.text = sql_.substr(begin, end - begin);
                return;
            }
            ++at_;
            token_.plain = false;
        }
    }

    void escape_string() {
        token_.kind = Token::Kind::string;
        const std::size_t begin = at_;
        while (at_ < sql_.size()) {
            const char c = sql_[at_++];
            if (c == '\\') {
                token_.plain = false;
                if (at_ < sql_.size()) ++at_;
            } else if (c == '\'') {
                if (peek(0) != '\'') {
                    token_.text = sql_.substr(begin, at_ - 1 - begin);
                    return;
                }
                ++at_;
                token_.plain = false;
            }
        }
        unterminated();
    }

    // Letters behind the digits are a word of their own, as they are for PostgreSQL before 15; later ones refuse them.
    void number() {
        while (at_ < sql_.size() && (class_of(sql_[at_]) == digit_char || sql_[at_] == '.' || sql_[at_] == '_')) ++at_;
        token_.kind = Token::Kind::other;
    }

    // $1, $$text$$ or $tag$text$tag$.
    void dollar() {
        token_.kind = Token::Kind::other;
        std::size_t end = at_ + 1;
        if (end < sql_.size() && class_of(sql_[end]) == digit_char) {
            while (end < sql_.size() && class_of(sql_[end]) == digit_char) ++end;
            at_ = end;
            return;
        }
        while (end < sql_.size() && (class_of(sql_[end]) == word_start_char || class_of(sql_[end]) == digit_char))
            ++end;
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
        token_.kind = Token::Kind::string;
        token_.text = sql_.substr(begin, close - begin);
    }

    // PostgreSQL refuses the whole text, whatever stands before.
    void unterminated() {
        broken_ = true;
        at_ = sql_.size();
        token_.kind = Token::Kind::end;
    }

    std::string_view sql_;
    std::size_t at_ = 0;
    Token token_;
    bool broken_ = false;
};

// ---- statements

// PostgreSQL keeps 63 bytes of a name and never half a character.
constexpr std::size_t name_bytes_max = 63;

std::string folded_name(const Token& token) {
    std::string name;
    if (token.kind == Token::Kind::word) {
        name = lowered(token.text);
    } else {
        for (std::size_t i = 0; i < token.text.size(); ++i) {
            name.push_back(token.text[i]);
            if (token.text[i] == '"') ++i;  // doubled
        }
    }
    if (name.size() > name_bytes_max) {
        std::size_t end = name_bytes_max;
        while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80) --end;
        name.resize(end);
    }
    return name;
}

class Scanner {
  public:
    explicit Scanner(std::string_view sql) : lexer_(sql), token_(lexer_.token()) {}
    Scanner(const Scanner&) = delete;
    Scanner& operator=(const Scanner&) = delete;

    StatementTraits run() {
        for (advance(); token_.kind != Token::Kind::end;) {
            if (token_.kind == Token::Kind::semicolon) {
                advance();
                continue;
            }
            ++statements_;
            head();
            while (!token_.at_end()) advance();
        }
        traits_.empty = statements_ == 0 && !lexer_.broken();
        if (statements_ > 1 || lexer_.broken()) {
            traits_.discard_all = traits_.reset_all = traits_.deallocate_all = false;
            traits_.deallocate_name.clear();
        }
        return std::move(traits_);
    }

  private:
    void advance() {
        lexer_.next();
        observe();
    }

    // What counts wherever it stands in a statement.
    void observe() {
        const Keyword keyword = token_.keyword;
        if (call_ != Call::none) observe_call();
        if (keyword == Keyword::none && !token_.at_end() && !token_.unicode) {
            previous_ = Keyword::none;
            create_ = into_ = false;
            return;
        }
        if (token_.at_end()) {
            previous_ = Keyword::none;
            create_ = into_ = updates_ = false;
            return;
        }
        if (token_.unicode && token_.kind == Token::Kind::quoted) change_unknown();  // may spell any name
        switch (keyword) {
            case Keyword::create:
                create_ = true;
                break;
            case Keyword::or_:
            case Keyword::replace:
            case Keyword::local:
            case Keyword::global:
                break;  // between CREATE and TEMPORARY
            case Keyword::temporary:
                if (create_ || into_) traits_.temporary_object = true;
                create_ = false;
                break;
            case Keyword::pg_temp:
                traits_.temporary_object = true;
                break;
            case Keyword::update:
                updates_ = true;
                break;
            case Keyword::pg_settings:
                if (updates_) change_unknown();
                break;
            case Keyword::advisory_lock:
                call_ = Call::advisory_lock;
                break;
            case Keyword::set_config:
                call_ = Call::set_config;
                break;
            default:
                create_ = false;
                break;
        }
        // INTO of an INSERT or MERGE names a table, which may well be called temp.
        into_ = (keyword == Keyword::into && previous_ != Keyword::insert && previous_ != Keyword::merge) ||
                (into_ && (keyword == Keyword::local || keyword == Keyword::global));
        previous_ = keyword;
    }

    // Goes on with what the tokens before began: set_config ( 'name' , is followed token by token.
    void observe_call() {
        const char c = token_.kind == Token::Kind::other ? token_.character : '\0';
        const Call before = std::exchange(call_, Call::none);
        switch (before) {
            case Call::none:
                return;
            case Call::advisory_lock:
                if (c == '(') traits_.session_advisory_lock = true;
                return;
            case Call::set_config:
                if (c != '(') return;
                traits_.may_change_settings = true;
                call_ = Call::config_name;
                return;
            case Call::config_name:
                if (token_.kind == Token::Kind::string && token_.plain) {
                    config_name_ = token_.text;
                    call_ = Call::config_comma;
                } else {
                    traits_.changes_unknown_setting = true;
                }
                return;
            case Call::config_comma:
                if (c == ',') {
                    touch(config_name_);
                } else {
                    traits_.changes_unknown_setting = true;
                }
                return;
        }
    }

    void change_unknown() { traits_.may_change_settings = traits_.changes_unknown_setting = true; }

    // A setting is changed by its name, in any case.
    void touch(std::string_view name) {
        if (is(name, "search_path") || is(name, "role") || is(name, "session_authorization"))
            traits_.resets_context = true;
        if (name.find('.') != std::string_view::npos) traits_.custom_settings.push_back(lowered(name));
    }

    void head() {
        switch (token_.keyword) {
            case Keyword::listen:
                traits_.listen = true;
                return;
            case Keyword::set:
                return set_statement();
            case Keyword::reset:
                return reset_statement();
            case Keyword::discard:
                return discard_statement();
            case Keyword::deallocate:
                return deallocate_statement();
            case Keyword::declare:
                return declare_statement();
            case Keyword::prepare:
                return prepare_statement();
            case Keyword::do_:
            case Keyword::call:
                return change_unknown();
            default:
                return;
        }
    }

    void set_statement() {
        advance();
        bool local = false;
        // SESSION is the default scope, and the first word of SESSION AUTHORIZATION and SESSION CHARACTERISTICS.
        while (token_.keyword == Keyword::local || token_.keyword == Keyword::session) {
            local |= token_.keyword == Keyword::local;
            advance();
        }
        if (token_.keyword == Keyword::transaction || token_.keyword == Keyword::constraints) return;
        if (!local) traits_.may_change_settings = true;
        if (token_.keyword == Keyword::authorization || token_.keyword == Keyword::schema) {
            traits_.resets_context = true;
        } else {
            setting_name();
        }
        for (; !token_.at_end(); advance()) {
            // A search path that puts unqualified tables into the temporary schema.
            if (token_.kind == Token::Kind::string && token_.text.starts_with("pg_temp"))
                traits_.temporary_object = true;
        }
    }

    void reset_statement() {
        advance();
        traits_.may_change_settings = true;
        if (token_.keyword == Keyword::all) {
            traits_.resets_context = true;
            advance();
            traits_.reset_all = token_.at_end();
        } else if (token_.keyword == Keyword::session) {
            advance();
            if (token_.keyword == Keyword::authorization) traits_.resets_context = true;
        } else {
            setting_name();
        }
    }

    // name ["." name ..], any part quoted or not
    void setting_name() {
        if (!token_.is_name()) return;
        const std::string_view first = token_.text;
        advance();
        if (!is_dot()) return touch(first);
        std::string name(first);
        while (is_dot()) {
            advance();
            if (!token_.is_name()) return;
            name.append(".").append(token_.text);
            advance();
        }
        touch(name);
    }

    [[nodiscard]] bool is_dot() const { return token_.kind == Token::Kind::other && token_.character == '.'; }

    void discard_statement() {
        advance();
        if (token_.keyword != Keyword::all) return;
        traits_.may_change_settings = traits_.resets_context = true;
        advance();
        traits_.discard_all = token_.at_end();
    }

    void deallocate_statement() {
        advance();
        Token name = token_;
        if (token_.keyword == Keyword::prepare) {
            advance();
            if (token_.is_name()) name = token_;  // else a statement that is called "prepare"
        }
        if (!name.is_name() || name.unicode) return;
        if (!token_.at_end()) advance();
        if (!token_.at_end()) return;
        if (name.keyword == Keyword::all) {
            traits_.deallocate_all = true;
        } else {
            traits_.deallocate_name = folded_name(name);
        }
    }

    void declare_statement() {
        for (Keyword before = Keyword::none; !token_.at_end(); advance()) {
            if (before == Keyword::with && token_.keyword == Keyword::hold) traits_.hold_cursor = true;
            before = token_.keyword;
        }
    }

    // PREPARE TRANSACTION 'id' is another thing; a prepared statement may be called "transaction" all the same.
    void prepare_statement() {
        advance();
        const bool maybe_transaction = token_.keyword == Keyword::transaction;
        if (token_.at_end()) return;
        advance();
        if (!(maybe_transaction && token_.kind == Token::Kind::string)) traits_.sql_prepare = true;
    }

    // What the last token began: a call of which the parenthesis, the name or the comma comes next.
    enum class Call : std::uint8_t { none, advisory_lock, set_config, config_name, config_comma };

    Lexer lexer_;
    const Token& token_;  // the lexer's
    StatementTraits traits_;
    std::size_t statements_ = 0;
    Keyword previous_ = Keyword::none;
    Call call_ = Call::none;
    std::string_view config_name_;
    bool create_ = false;   // CREATE [OR REPLACE] [LOCAL | GLOBAL] was last
    bool into_ = false;     // INTO [LOCAL | GLOBAL] was last
    bool updates_ = false;  // UPDATE stands in this statement
};

}  // namespace

StatementTraits scan_statement(std::string_view sql) {
    return Scanner(sql).run();
}

}  // namespace pgporter
