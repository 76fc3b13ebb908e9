#include "proxy/session/guarded_statements.hpp"

#include <string>
#include <utility>

#include "catalog/setting_name.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

Error refused(const Access& access, std::string_view what) {
    const bool is_role = what == "role" || what == "session_authorization";
    std::string message;
    if (is_role) {
        message = "permission denied to leave the tenant's role: SET ROLE, RESET ROLE and SET SESSION AUTHORIZATION are not allowed here";
    } else if (what.empty()) {
        message = "set_config with a parameter's name that isn't a plain string literal is not allowed here";
    } else {
        message = "permission denied to change parameter \"" + std::string(what) + "\": pgporter sets it for the tenant";
    }
    return fail(ErrorKind::forbidden, std::move(message), {},
                access.guards_role ? "the tenant's database has isolation role: the role keeps its tenants apart"
                                   : "the parameter says whose rows are whose; name another tenant when connecting",
                "42501");
}

bool is_read_only_setting(std::string_view name) {
    return name == "default_transaction_read_only" || name == "transaction_read_only";
}

Error read_write_refused() {
    return fail(ErrorKind::forbidden, "cannot set transaction read-write mode: the tenant is read-only", {},
                "the catalog says so (state: read_only)", "25006");
}

class Guard {
  public:
    Guard(std::string_view sql, const Access& access, SqlDialect dialect)
        : lexer_(sql, dialect), token_(lexer_.token()), access_(access), setting_(folded_setting_name(access.setting)) {}
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

    std::optional<Error> run() {
        bool at_head = true;
        bool updates = false;
        for (lexer_.next(); token_.kind != SqlToken::Kind::end && !error_;) {
            if (token_.kind == SqlToken::Kind::semicolon) {
                at_head = true;
                updates = false;
                lexer_.next();
                continue;
            }
            if (token_.kind == SqlToken::Kind::quoted && token_.unicode) {
                refuse({});  // may spell any name
                break;
            }
            updates = updates || token_.keyword == SqlKeyword::update;
            if (updates && token_.keyword == SqlKeyword::pg_settings) refuse({});  // its rule calls set_config
            const bool is_head = std::exchange(at_head, false);
            if (is_head && access_.is_read_only && (is_word("begin") || is_word("start"))) {
                transaction_modes();
            } else if (is_head && token_.keyword == SqlKeyword::set) {
                set_statement();
            } else if (is_head && token_.keyword == SqlKeyword::reset) {
                reset_statement();
            } else if (token_.keyword == SqlKeyword::set_config) {
                set_config_call();
            } else {
                lexer_.next();
            }
        }
        return std::move(error_);
    }

  private:
    void refuse(std::string_view what) { error_ = refused(access_, what); }

    // name ["." name ..] in lower case, each part quoted or not.
    std::string read_name() {
        std::string name;
        while (token_.is_name()) {
            if (token_.unicode) {
                refuse({});
                return {};
            }
            name += folded(token_.text);
            lexer_.next();
            if (token_.kind != SqlToken::Kind::other || token_.character != '.') break;
            name += '.';
            lexer_.next();
        }
        return name;
    }

    bool is_word(std::string_view word) const { return token_.kind == SqlToken::Kind::word && equals_folded(token_.text, word); }

    // BEGIN .., START TRANSACTION .., SET TRANSACTION .., SET SESSION CHARACTERISTICS ..
    void transaction_modes() {
        while (token_.kind != SqlToken::Kind::end && token_.kind != SqlToken::Kind::semicolon && !error_) {
            const bool reads = is_word("read");
            lexer_.next();
            if (reads && is_word("write")) error_ = read_write_refused();
        }
    }

    void skip_scope() {
        while (token_.keyword == SqlKeyword::local || token_.keyword == SqlKeyword::session) lexer_.next();
    }

    // The scope's words may come twice: SET SESSION SESSION AUTHORIZATION.
    void set_statement() {
        lexer_.next();
        skip_scope();
        if (token_.keyword == SqlKeyword::authorization) {
            if (access_.guards_role) refuse("session_authorization");
            lexer_.next();
            return;
        }
        if (access_.is_read_only && (is_word("transaction") || is_word("characteristics"))) return transaction_modes();
        const std::string name = read_name();
        if (error_ || !is_guarded(name)) return;
        // SET ROLE acme; SET role = acme; SET app.tenant TO 'x'
        const bool has_sign = (token_.kind == SqlToken::Kind::other && token_.character == '=') ||
                              (token_.kind == SqlToken::Kind::word && equals_folded(token_.text, "to"));
        if (has_sign) lexer_.next();
        check_value(name, value_of_token());
        if (token_.kind != SqlToken::Kind::end) lexer_.next();
        if (!error_ && !token_.at_end()) refuse(name);  // a list, an expression: more than the one value
    }

    // A word is a value in SET, folded as a name is; a number is what it is, which no token tells.
    std::optional<std::string> value_of_token() const {
        if (token_.kind == SqlToken::Kind::word) return folded(token_.text);
        const bool is_text = token_.kind == SqlToken::Kind::quoted || token_.kind == SqlToken::Kind::string;
        if (is_text && token_.plain && !token_.unicode) return std::string(token_.text);
        return std::nullopt;
    }

    void reset_statement() {
        lexer_.next();
        if (token_.keyword == SqlKeyword::session) lexer_.next();
        if (token_.keyword == SqlKeyword::authorization) {
            if (access_.guards_role) refuse("session_authorization");
            return;
        }
        // RESET ALL leaves the role alone; a setting that is reset shows nobody's rows, and the session's value comes back behind it.
        const std::string name = read_name();
        if (!error_ && access_.guards_role && (name == "role" || name == "session_authorization" || name == "standard_conforming_strings")) {
            if (name != "standard_conforming_strings") refuse(name);
        }
    }

    // set_config ( 'name' , 'value' ..: with other names than literals nobody knows what it sets.
    void set_config_call() {
        lexer_.next();
        if (token_.kind != SqlToken::Kind::other || token_.character != '(') return;  // a name, no call
        lexer_.next();
        if (token_.kind != SqlToken::Kind::string || !token_.plain) return refuse({});
        const std::string name = folded_setting_name(token_.text);
        lexer_.next();
        if (token_.kind != SqlToken::Kind::other || token_.character != ',') return refuse({});  // 'ro' || 'le'
        lexer_.next();
        if (!is_guarded(name)) return;
        const auto value = token_.kind == SqlToken::Kind::string ? value_of_token() : std::nullopt;
        if (!value) return refuse(name);
        check_value(name, value);
        lexer_.next();
        if (!error_ && (token_.kind != SqlToken::Kind::other || token_.character != ',')) refuse(name);  // an expression
    }

    bool is_guarded(const std::string& name) const {
        if (name == "standard_conforming_strings") return true;
        if (access_.guards_role && (name == "role" || name == "session_authorization")) return true;
        if (access_.is_read_only && is_read_only_setting(name)) return true;
        return access_.guards_setting && name == setting_;
    }

    // What changes nothing is allowed: frameworks say again what is so already.
    void check_value(const std::string& name, const std::optional<std::string>& value) {
        bool same = false;
        if (is_read_only_setting(name)) {
            if (value != "on" && value != "true" && value != "yes" && value != "1") error_ = read_write_refused();
            return;
        }
        if (name == "role") {
            same = value && *value == access_.role && *value != "none";
        } else if (name == "standard_conforming_strings") {
            same = value && (*value == "on" || *value == "true");  // this reading of the text depends on it
        } else if (name == setting_) {
            same = value && *value == access_.setting_value;
        }
        if (!same) refuse(name);
    }

    SqlLexer lexer_;
    const SqlToken& token_;  // the lexer's
    const Access& access_;
    std::string setting_;
    std::optional<Error> error_;
};

}  // namespace

std::optional<Error> guard_statement(std::string_view sql, const Access& access, SqlDialect dialect) {
    if (!access.guards_role && !access.guards_setting && !access.is_read_only) return std::nullopt;
    return Guard(sql, access, dialect).run();
}

std::optional<Error> guard_discard_all(const Access& access) {
    if (!access.guards_role) return std::nullopt;
    return fail(ErrorKind::forbidden, "DISCARD ALL in the extended protocol is not allowed here: it would leave the tenant's role", {},
                "send it as a simple query", "42501");
}

std::optional<Error> guard_unseen(const Access& access) {
    if (!access.guards_role && !access.guards_setting && !access.is_read_only) return std::nullopt;
    return fail(ErrorKind::forbidden, "function calls by number and statements too long to be looked at are not allowed here", {},
                "call the function in SQL; see limits.statement_bytes_max", "42501");
}

}  // namespace pgporter
