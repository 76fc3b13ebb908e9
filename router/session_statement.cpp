#include "router/session_statement.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "catalog/sql_identifier.hpp"
#include "router/search_path.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

constexpr std::uint16_t bind_parameters_max = 65'535;

class Recogniser {
  public:
    explicit Recogniser(std::string_view sql) : sql_(sql), lexer_(sql), token_(lexer_.token()) {}
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
            return {whole};
        }
        return statements;
    }

  private:
    // One statement, up to its semicolon. What isn't understood is looked through for calls of set_config.
    SessionStatement statement() {
        const std::size_t begin = token_.begin;
        end_ = begin;
        SessionStatement made;
        const bool understood = head(made) && token_.at_end();
        if (understood) {
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
        SqlLexer again(sql_.substr(begin));
        for (again.next(); !again.token().at_end(); again.next()) {
            if (again.token().keyword != SqlKeyword::set_config) continue;
            again.next();
            if (!(again.token().kind == SqlToken::Kind::other && again.token().character == '(')) continue;
            again.next();
            const auto name = again.token().kind == SqlToken::Kind::string ? token_value(again.token()) : std::nullopt;
            if (name) other.computed.push_back(folded(*name));
            if (again.token().at_end()) break;
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
        if (take("rollback") || take("abort")) return rollback(made);
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

    bool name(std::string& into) {
        if (!token_.is_name()) return false;
        auto value = token_value(token_);
        if (!value) return false;
        into = truncated_identifier(*std::move(value));
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

    bool set(SessionStatement& made) {
        next();
        SettingChange change;
        change.local.text = "false";
        if (take(SqlKeyword::local)) {
            change.local.text = "true";
        } else if (token_.keyword == SqlKeyword::session) {
            next();
            if (token_.keyword == SqlKeyword::authorization) return false;
        } else if (token_.keyword == SqlKeyword::transaction) {
            next();
            made.verb = SessionVerb::set_transaction;
            return modes(false);
        }
        if (token_.keyword == SqlKeyword::schema) {
            next();
            change.name.text = "search_path";
            made.verb = SessionVerb::set;
            made.changes.push_back(std::move(change));
            const auto value = token_.kind == SqlToken::Kind::string ? token_value(token_) : std::nullopt;
            if (!value) return false;
            made.changes.front().value.text = quote_ident_where_needed(truncated_identifier(*value));
            next();
            return true;
        }
        if (!setting_name(change.name.text)) return false;
        made.verb = SessionVerb::set;
        made.changes.push_back(std::move(change));
        if (!take("to") && !take_character('=')) return false;
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
        if (token_.keyword == SqlKeyword::session || !setting_name(change.name.text)) return false;
        made.verb = SessionVerb::set;
        made.changes.push_back(std::move(change));
        return true;
    }

    // name {"." name}, in lower case: settings' names are compared so.
    bool setting_name(std::string& into) {
        while (true) {
            if (!token_.is_name()) return false;
            const auto part = token_value(token_);
            if (!part) return false;
            into += folded(*part);
            next();
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
            const bool fits = token_.is_name() || token_.kind == SqlToken::Kind::string;
            const auto item = fits ? token_value(token_) : std::nullopt;
            if (!item) return false;
            if (!into.text.empty()) into.text += ", ";
            into.text += quote_ident_where_needed(truncated_identifier(*item));
            next();
            if (!take_character(',')) return true;
        }
    }

    bool value(SettingOperand& into) {
        if (take("default")) {
            into.kind = SettingOperand::Kind::null;
            return true;
        }
        if (token_.is_name() || token_.kind == SqlToken::Kind::string) {
            auto text = token_value(token_);
            if (!text) return false;
            into.text = *std::move(text);
            next();
            return true;
        }
        if (take_character('-')) into.text = "-";
        if (!is_number()) return false;
        into.text += token_.text;
        next();
        return true;
    }

    [[nodiscard]] bool is_number() const {
        return token_.kind == SqlToken::Kind::other && token_.character == 0 && !token_.text.empty() && token_.text.front() != '$' &&
               token_.text.find('_') == std::string_view::npos;
    }

    // [pg_catalog.]set_config(name, value, is_local) [[AS] column], ...
    bool set_config(SessionStatement& made) {
        made.verb = SessionVerb::set_config;
        while (true) {
            if (take("pg_catalog") && !take_character('.')) return false;
            if (token_.keyword != SqlKeyword::set_config) return false;
            next();
            SettingChange change;
            change.column = "set_config";
            if (!take_character('(') || !operand(change.name) || !take_character(',') || !operand(change.value) || !take_character(',') ||
                !flag(change.local) || !take_character(')')) {
                return false;
            }
            change.name.text = folded(change.name.text);
            if (change.name.kind == SettingOperand::Kind::null) return false;
            if (take("as")) {
                if (!name(change.column)) return false;
            } else if (token_.is_name() && !name(change.column)) {
                return false;  // a name without AS; where it is a keyword instead, more follows, and that isn't understood
            }
            made.changes.push_back(std::move(change));
            if (!take_character(',')) return true;
        }
    }

    bool operand(SettingOperand& into) {
        if (token_.kind == SqlToken::Kind::string) {
            auto text = token_value(token_);
            if (!text) return false;
            into.text = *std::move(text);
            next();
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
        if (!take_character(':')) return true;
        if (!take_character(':')) return false;
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

    std::string_view sql_;
    SqlLexer lexer_;
    const SqlToken& token_;  // the lexer's
    std::size_t end_ = 0;    // behind the token before
};

std::optional<std::string> text_of(const SettingOperand& operand, const BindValues& values) {
    switch (operand.kind) {
        case SettingOperand::Kind::text: return operand.text;
        case SettingOperand::Kind::null: return std::nullopt;
        case SettingOperand::Kind::parameter: return values[operand.parameter - 1];
    }
    return std::nullopt;
}

bool is_there(const SettingOperand& operand, const BindValues& values) {
    return operand.kind != SettingOperand::Kind::parameter || operand.parameter <= values.size();
}

}  // namespace

std::optional<std::vector<ResolvedChange>> resolve(const SessionStatement& statement, const BindValues& values) {
    std::vector<ResolvedChange> changes;
    for (const SettingChange& change : statement.changes) {
        if (!is_there(change.name, values) || !is_there(change.value, values) || !is_there(change.local, values)) return std::nullopt;
        const auto name = text_of(change.name, values);
        const auto local = text_of(change.local, values);
        if (!name || !local) return std::nullopt;
        changes.push_back({folded(*name), text_of(change.value, values), *local == "true" || *local == "t"});
    }
    return changes;
}

std::vector<SessionStatement> recognise(std::string_view sql) {
    return Recogniser(sql).run();
}

bool is_transaction_word(std::string_view word) {
    if (word.size() < 3 || word.size() > 9) return false;
    switch (word.front() | 0x20) {
        case 'a': return equals_folded(word, "abort");
        case 'b': return equals_folded(word, "begin");
        case 'c': return equals_folded(word, "commit");
        case 'e': return equals_folded(word, "end");
        case 'r': return equals_folded(word, "rollback") || equals_folded(word, "release");
        case 's': return equals_folded(word, "start") || equals_folded(word, "savepoint");
        default: return false;
    }
}

}  // namespace pgporter
