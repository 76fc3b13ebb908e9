#include "router/session_statement.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "base/utf8.hpp"
#include "catalog/sql_identifier.hpp"
#include "router/search_path.hpp"
#include "router/sql_lexer.hpp"
#include "router/sql_words.hpp"

namespace pgporter {
namespace {

constexpr std::uint16_t bind_parameters_max = 65'535;

class Recogniser {
  public:
    Recogniser(std::string_view sql, SqlDialect dialect) : sql_(sql), dialect_(dialect), lexer_(sql, dialect), token_(lexer_.token()) {}
    Recogniser(const Recogniser&) = delete;
    Recogniser& operator=(const Recogniser&) = delete;

    std::vector<SessionStatement> run() {
        std::vector<SessionStatement> statements;
        for (next(); token_.kind != SqlToken::Kind::end;) {
            if (token_.kind == SqlToken::Kind::semicolon) {
                next();
                continue;
            }
            statements.push_back(statement());
        }
        if (lexer_.broken()) {
            SessionStatement whole;
            whole.text = sql_;
            whole.needs_server = true;
            return {whole};
        }
        // Text in another encoding isn't ours to judge, and a vertical tab is white space since PostgreSQL 16 only.
        const bool is_readable = dialect_.encoding == SqlEncoding::utf8 ? is_utf8(sql_) : is_ascii(sql_);
        if (!is_readable || sql_.find_first_of(std::string_view("\v\0", 2)) != std::string_view::npos) {
            for (SessionStatement& made : statements) made.needs_server = true;
        }
        return statements;
    }

  private:
    // One statement, up to its semicolon. What isn't understood is looked through for calls of set_config.
    SessionStatement statement() {
        const std::size_t begin = token_.begin;
        end_ = begin;
        SessionStatement made;
        is_cut_ = false;
        const bool understood = head(made) && token_.at_end();
        if (understood) {
            made.needs_server |= is_cut_;
            made.text = sql_.substr(begin, end_ - begin);
            made.begin = begin;
            return made;
        }
        SessionStatement other;
        other.begin = begin;
        if (made.verb == SessionVerb::set) {
            for (const SettingChange& change : made.changes) other.computed.push_back(change.name.text);
        }
        rescan(begin, other);
        return other;
    }

    // From the statement's first token on again: which settings do calls of set_config change?
    void rescan(std::size_t begin, SessionStatement& other) {
        enum class Seen { nothing, name, parenthesis } seen = Seen::nothing;
        SqlLexer again(sql_.substr(begin), dialect_);
        for (again.next(); !again.token().at_end(); again.next()) {
            const SqlToken& token = again.token();
            if (seen == Seen::parenthesis && token.kind == SqlToken::Kind::string) {
                const auto name = value_of(token);
                other.computed.push_back(name ? folded(*name) : "search_path");  // it may be any setting
            }
            if (token.keyword == SqlKeyword::set_config) {
                seen = Seen::name;
            } else {
                const bool is_call = seen == Seen::name && token.kind == SqlToken::Kind::other && token.character == '(';
                seen = is_call ? Seen::parenthesis : Seen::nothing;
            }
        }
        while (!token_.at_end()) next();
        other.text = sql_.substr(begin, end_ - begin);
    }

    bool head(SessionStatement& made) {
        switch (token_.keyword) {
            case SqlKeyword::set: return set(made);
            case SqlKeyword::reset: return reset(made);
            case SqlKeyword::discard:
                next();
                made.verb = SessionVerb::discard_all;
                return take(SqlKeyword::all);
            default: break;
        }
        if (token_.kind != SqlToken::Kind::word) return false;
        if (take("select")) return set_config(made);
        if (take("begin")) {
            made.verb = SessionVerb::begin;
            work();
            return modes(true);
        }
        if (take("start")) {
            made.verb = SessionVerb::begin;
            return take("transaction") && modes(true);
        }
        if (take("commit") || take("end")) {
            made.verb = SessionVerb::commit;
            work();
            return chain(made);
        }
        if (take("abort")) {
            made.verb = SessionVerb::rollback;
            work();
            return chain(made);
        }
        if (take("rollback")) return rollback(made);
        if (take("savepoint")) {
            made.verb = SessionVerb::savepoint;
            return name(made.savepoint);
        }
        if (take("release")) {
            made.verb = SessionVerb::release;
            return savepoint_name(made);
        }
        return false;
    }

    bool rollback(SessionStatement& made) {
        made.verb = SessionVerb::rollback;
        work();
        if (take("to")) {
            made.verb = SessionVerb::rollback_to;
            return savepoint_name(made);
        }
        return chain(made);
    }

    void work() {
        if (!take("work")) [[maybe_unused]] const bool taken = take("transaction");
    }

    bool chain(SessionStatement& made) {
        if (!take("and")) return true;
        const bool no = take("no");
        made.chain = !no;
        return take("chain");
    }

    bool savepoint_name(SessionStatement& made) {
        // SAVEPOINT may be the word or the name.
        if (token_.kind == SqlToken::Kind::word && equals_folded(token_.text, "savepoint")) {
            made.savepoint = "savepoint";
            next();
            return token_.at_end() || name(made.savepoint);
        }
        return name(made.savepoint);
    }

    // A name as PostgreSQL's grammar has it where a keyword would be ambiguous.
    [[nodiscard]] bool is_name() const {
        if (token_.kind == SqlToken::Kind::word) return may_be_name(token_.text);
        return token_.kind == SqlToken::Kind::quoted && !token_.text.empty();
    }

    // A name that is no word of the grammar's here.
    bool name(std::string& into) { return is_name() && take_name(into); }

    bool take_name(std::string& into) {
        const auto value = value_of(token_);
        if (!value) return false;
        into = truncated_identifier(*value);
        is_cut_ |= into.size() != value->size();
        next();
        return true;
    }

    // Transaction modes, separated by commas or by nothing.
    bool modes(bool may_be_none) {
        if (token_.at_end()) return may_be_none;
        while (true) {
            if (!mode()) return false;
            const bool comma = take_character(',');
            if (token_.at_end()) return !comma;
        }
    }

    bool mode() {
        if (take("isolation")) {
            if (!take("level")) return false;
            if (take("serializable")) return true;
            if (take("repeatable")) return take("read");
            return take("read") && (take("committed") || take("uncommitted"));
        }
        if (take("read")) return take("only") || take("write");
        if (take("not")) return take("deferrable");
        return take("deferrable");
    }

    [[nodiscard]] bool is_unreadable_name() const { return token_.is_name() && (token_.unicode || !value_of(token_)); }

    bool set(SessionStatement& made) {
        next();
        SettingChange change;
        change.local.text = "false";
        if (token_.keyword == SqlKeyword::local && !lexer_.begins_setting_name()) {
            next();
            change.local.text = "true";
        } else if (token_.keyword == SqlKeyword::session && !lexer_.begins_setting_name()) {
            next();
            if (token_.keyword == SqlKeyword::authorization) return false;
        }
        if (token_.keyword == SqlKeyword::transaction && !lexer_.begins_setting_name()) {
            next();
            made.verb = SessionVerb::set_transaction;
            return modes(false);
        }
        if (token_.keyword == SqlKeyword::schema && !lexer_.begins_setting_name()) {
            next();
            change.name.text = "search_path";
            made.verb = SessionVerb::set;
            made.changes.push_back(std::move(change));
            const auto value = token_.kind == SqlToken::Kind::string ? value_of(token_) : std::nullopt;
            if (!value) return false;
            made.changes.front().value.text = quote_ident_where_needed(*value);
            next();
            return true;
        }
        const bool is_named = setting_name(change.name.text);
        if (!is_named && !is_unreadable_name()) return false;
        // Spelled with Unicode escapes or in another encoding, it may be any setting.
        if (!is_named) change.name.text = "search_path";
        made.verb = SessionVerb::set;
        made.changes.push_back(std::move(change));
        if (!is_named || (!take("to") && !take_character('='))) return false;
        return made.changes.front().name.text == "search_path" ? path(made.changes.front().value) : value(made.changes.front().value);
    }

    bool reset(SessionStatement& made) {
        next();
        if (take(SqlKeyword::all)) {
            made.verb = SessionVerb::reset_all;
            return true;
        }
        SettingChange change;
        change.local.text = "false";
        change.value.kind = SettingOperand::Kind::null;
        if (token_.keyword == SqlKeyword::session && !lexer_.begins_setting_name()) return false;
        const bool is_named = setting_name(change.name.text);
        if (!is_named && !is_unreadable_name()) return false;
        if (!is_named) change.name.text = "search_path";
        made.verb = SessionVerb::set;
        made.changes.push_back(std::move(change));
        return is_named;
    }

    // name {"." name}, in lower case: settings' names are compared so.
    bool setting_name(std::string& into) {
        while (true) {
            std::string part;
            if (!name(part)) return false;
            into += folded(part);
            if (!take_character('.')) return true;
            into += '.';
        }
    }

    // A list of schemas, made what SHOW would print.
    bool path(SettingOperand& into) {
        if (take("default")) {
            into.kind = SettingOperand::Kind::null;
            return true;
        }
        while (true) {
            if (!into.text.empty()) into.text += ", ";
            if (token_.kind == SqlToken::Kind::string) {
                // A string isn't cut here: SHOW prints it in full, and only who reads the list cuts it.
                const auto item = value_of(token_);
                if (!item) return false;
                into.text += quote_ident_where_needed(*item);
                next();
            } else if (is_value_word()) {
                std::string item;
                if (!take_name(item)) return false;
                into.text += quote_ident_where_needed(item);
            } else if (!number(into.text)) {
                return false;
            }
            if (!take_character(',')) return true;
        }
    }

    bool value(SettingOperand& into) {
        if (take("default")) {
            into.kind = SettingOperand::Kind::null;
            return true;
        }
        if (token_.kind == SqlToken::Kind::string) return string(into.text);
        if (is_value_word()) return take_name(into.text);
        return number(into.text);
    }

    [[nodiscard]] bool is_value_word() const {
        if (token_.kind == SqlToken::Kind::word) return may_be_value(token_.text);
        return token_.kind == SqlToken::Kind::quoted && !token_.text.empty();
    }

    bool string(std::string& into) {
        auto text = value_of(token_);
        if (!text) return false;
        into = *std::move(text);
        next();
        return true;
    }

    // As PostgreSQL keeps it: an int is printed anew, anything else stays what it is.
    bool number(std::string& into) {
        const bool is_negative = take_character('-');
        if (!is_negative) [[maybe_unused]] const bool plus = take_character('+');
        if (token_.kind != SqlToken::Kind::other || token_.text.empty() || token_.text.front() == '$') return false;
        const std::string_view text = token_.text;
        if (text.find('_') != std::string_view::npos || std::count(text.begin(), text.end(), '.') > 1) return false;
        std::int64_t whole = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
        if (error == std::errc() && end == text.data() + text.size() && whole <= std::numeric_limits<std::int32_t>::max()) {
            into += std::to_string(is_negative ? -whole : whole);
        } else {
            if (is_negative) into += '-';
            into += text;
        }
        next();
        return true;
    }

    // [pg_catalog.]set_config(name, value, is_local) [[AS] column], ...
    bool set_config(SessionStatement& made) {
        made.verb = SessionVerb::set_config;
        while (true) {
            if (take("pg_catalog") && !take_character('.')) return false;
            const bool is_function = token_.keyword == SqlKeyword::set_config;
            if (!is_function || (token_.kind == SqlToken::Kind::quoted && token_.text != "set_config")) return false;
            next();
            SettingChange change;
            change.column = "set_config";
            if (!take_character('(')) return false;
            if (made.changes.empty() && is_name()) return set_config_pairs(made);
            if (!operand(change.name) || !take_character(',') || !operand(change.value) || !take_character(',') || !flag(change.local) ||
                !take_character(')')) {
                return false;
            }
            change.name.text = folded(change.name.text);
            if (change.name.kind == SettingOperand::Kind::null || !column(change.column)) return false;
            made.changes.push_back(std::move(change));
            if (!take_character(',')) return true;
        }
    }

    bool column(std::string& into) {
        if (take("as")) {
            const bool fits = token_.is_name() && !token_.text.empty();
            return fits && take_name(into);
        }
        if (!token_.is_name()) return true;
        const bool fits = token_.kind == SqlToken::Kind::quoted ? !token_.text.empty() : may_be_label(token_.text);
        return fits && take_name(into);
    }

    // PostGraphile's: set_config(el->>0, el->>1, true) from json_array_elements($1[::json]) [as] el
    bool set_config_pairs(SessionStatement& made) {
        SettingChange change;
        change.column = "set_config";
        std::string row;
        std::string again;
        if (!name(row) || !take_operator("->>") || !take_digit("0") || !take_character(',')) return false;
        if (!name(again) || again != row || !take_operator("->>") || !take_digit("1") || !take_character(',')) return false;
        if (!flag(change.local) || change.local.kind != SettingOperand::Kind::text || !take_character(')')) return false;
        if (!take("from") || !take("json_array_elements") || !take_character('(') || !parameter(change.name) || !cast({"json"})) return false;
        if (!take_character(')')) return false;
        [[maybe_unused]] const bool as = take("as");
        if (!name(again) || again != row) return false;
        change.name.kind = SettingOperand::Kind::pairs;
        change.value = change.name;
        made.needs_server = true;  // a row for each pair
        made.changes.push_back(std::move(change));
        return true;
    }

    bool operand(SettingOperand& into) {
        if (token_.kind == SqlToken::Kind::string) {
            if (!string(into.text)) return false;
        } else if (take("null")) {
            into.kind = SettingOperand::Kind::null;
        } else if (!parameter(into)) {
            return false;
        }
        return cast({"text", "varchar"});
    }

    bool flag(SettingOperand& into) {
        if (take("true")) {
            into.text = "true";
        } else if (take("false")) {
            into.text = "false";
        } else if (token_.kind == SqlToken::Kind::string) {
            if (token_.unicode) return false;
            const std::string text = folded(token_.text);
            if (text != "true" && text != "false" && text != "t" && text != "f") return false;
            into.text = text.front() == 't' ? "true" : "false";
            next();
        } else if (!parameter(into)) {
            return false;
        }
        return cast({"bool", "boolean"});
    }

    bool parameter(SettingOperand& into) {
        if (token_.kind != SqlToken::Kind::other || token_.text.size() < 2 || token_.text.front() != '$' || token_.text.size() > 6) return false;
        std::uint32_t number = 0;
        for (const char digit : token_.text.substr(1)) number = number * 10 + static_cast<std::uint32_t>(digit - '0');
        if (number == 0 || number > bind_parameters_max) return false;
        into.kind = SettingOperand::Kind::parameter;
        into.parameter = static_cast<std::uint16_t>(number);
        next();
        return true;
    }

    // [:: type]
    bool cast(std::initializer_list<std::string_view> types) {
        if (token_.kind != SqlToken::Kind::other || token_.character != ':') return true;
        if (!take_operator("::")) return false;
        return std::any_of(types.begin(), types.end(), [this](std::string_view type) { return take(type); });
    }

    void next() {
        end_ = lexer_.position();
        lexer_.next();
    }
    bool take(std::string_view word) {
        if (token_.kind != SqlToken::Kind::word || !equals_folded(token_.text, word)) return false;
        next();
        return true;
    }
    bool take(SqlKeyword keyword) {
        if (token_.keyword != keyword) return false;
        next();
        return true;
    }
    bool take_character(char c) {
        if (token_.kind != SqlToken::Kind::other || token_.character != c) return false;
        next();
        return true;
    }

    // Characters with nothing between them.
    bool take_operator(std::string_view characters) {
        for (std::size_t i = 0; i < characters.size(); ++i) {
            if (i > 0 && token_.begin != end_) return false;
            if (!take_character(characters[i])) return false;
        }
        return true;
    }
    bool take_digit(std::string_view digit) {
        if (token_.kind != SqlToken::Kind::other || token_.character != 0 || token_.text != digit) return false;
        next();
        return true;
    }

    // Nullopt as well: it is spelled in an encoding that isn't read here.
    [[nodiscard]] std::optional<std::string> value_of(const SqlToken& token) const {
        auto value = token_value(token);
        if (value && dialect_.encoding != SqlEncoding::utf8 && !is_ascii(*value)) return std::nullopt;
        return value;
    }

    std::string_view sql_;
    SqlDialect dialect_;
    SqlLexer lexer_;
    const SqlToken& token_;  // the lexer's
    std::size_t end_ = 0;    // behind the token before
    bool is_cut_ = false;    // a name of this statement is too long
};

}  // namespace

std::vector<SessionStatement> recognise(std::string_view sql, SqlDialect dialect) {
    return Recogniser(sql, dialect).run();
}

}  // namespace pgporter
