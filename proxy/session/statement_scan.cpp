#include "proxy/session/statement_scan.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "proxy/session/plain_statement.hpp"
#include "router/session_statement.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

// PostgreSQL keeps 63 bytes of a name and never half a character.
constexpr std::size_t name_bytes_max = 63;

std::string folded_name(const SqlToken& token) {
    std::string name;
    if (token.kind == SqlToken::Kind::word) {
        name = folded(token.text);
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
    Scanner(std::string_view sql, SqlDialect dialect) : lexer_(sql, dialect), token_(lexer_.token()) {}
    Scanner(const Scanner&) = delete;
    Scanner& operator=(const Scanner&) = delete;

    StatementTraits run() {
        for (advance(); token_.kind != SqlToken::Kind::end;) {
            if (token_.kind == SqlToken::Kind::semicolon) {
                advance();
                continue;
            }
            if (++statements_ == 1) {
                traits_.plain = is_plain_word();
                traits_.gives_up = is_giving_up();
            }
            head();
            while (!token_.at_end()) advance();
        }
        traits_.may_change_dialect |= traits_.changes_unknown_setting;
        traits_.empty = statements_ == 0 && !lexer_.broken();
        if (statements_ > 1 || lexer_.broken()) {
            traits_.plain = traits_.gives_up = false;
            traits_.discard_all = traits_.reset_all = traits_.deallocate_all = false;
            traits_.deallocate_name.clear();
            traits_.reset_name.clear();
        }
        return std::move(traits_);
    }

  private:
    [[nodiscard]] bool is_giving_up() const {
        if (token_.keyword == SqlKeyword::discard || token_.keyword == SqlKeyword::deallocate) return true;
        const auto is = [this](std::string_view word) { return equals_folded(token_.text, word); };
        return token_.kind == SqlToken::Kind::word && (is("unlisten") || is("close") || is("drop") || is("rollback") || is("abort"));
    }
    [[nodiscard]] bool is_plain_word() const {
        if (token_.keyword == SqlKeyword::with || token_.keyword == SqlKeyword::insert || token_.keyword == SqlKeyword::update) return true;
        return token_.kind == SqlToken::Kind::word && (equals_folded(token_.text, "select") || equals_folded(token_.text, "delete"));
    }

    void advance() {
        lexer_.next();
        observe();
    }

    // What counts wherever it stands in a statement.
    void observe() {
        const SqlKeyword keyword = token_.keyword;
        if (call_ != Call::none) observe_call();
        if (keyword == SqlKeyword::none && is_advisory_unlock()) traits_.may_unpin = true;
        if (keyword == SqlKeyword::none && !token_.at_end() && !token_.unicode) {
            previous_ = SqlKeyword::none;
            create_ = into_ = false;
            return;
        }
        if (token_.at_end()) {
            previous_ = SqlKeyword::none;
            create_ = into_ = updates_ = false;
            return;
        }
        if (token_.unicode && token_.kind == SqlToken::Kind::quoted) change_unknown();  // may spell any name
        switch (keyword) {
            case SqlKeyword::create:
                create_ = traits_.creates = true;
                break;
            case SqlKeyword::or_:
            case SqlKeyword::replace:
            case SqlKeyword::local:
            case SqlKeyword::global:
                break;  // between CREATE and TEMPORARY
            case SqlKeyword::temporary:
                if (create_ || into_) traits_.temporary_object = true;
                create_ = false;
                break;
            case SqlKeyword::pg_temp:
                traits_.temporary_object = true;
                break;
            case SqlKeyword::update:
                updates_ = true;
                break;
            case SqlKeyword::pg_settings:
                if (updates_) change_unknown();
                break;
            case SqlKeyword::advisory_lock:
                call_ = Call::advisory_lock;
                break;
            case SqlKeyword::set_config:
                call_ = Call::set_config;
                break;
            default:
                create_ = false;
                break;
        }
        // INTO of an INSERT or MERGE names a table, which may well be called temp.
        into_ = (keyword == SqlKeyword::into && previous_ != SqlKeyword::insert && previous_ != SqlKeyword::merge) ||
                (into_ && (keyword == SqlKeyword::local || keyword == SqlKeyword::global));
        traits_.creates |= into_;
        previous_ = keyword;
    }

    [[nodiscard]] bool is_advisory_unlock() const {
        constexpr std::string_view name = "pg_advisory_unlock";
        return token_.is_name() && token_.text.size() >= name.size() && equals_folded(token_.text.substr(0, name.size()), name);
    }

    // Goes on with what the tokens before began: set_config ( 'name' , is followed token by token.
    void observe_call() {
        const char c = token_.kind == SqlToken::Kind::other ? token_.character : '\0';
        const Call before = std::exchange(call_, Call::none);
        switch (before) {
            case Call::none:
                return;
            case Call::advisory_lock:
                if (c == '(') traits_.session_advisory_lock = true;
                return;
            case Call::set_config:
                if (c != '(') return;
                traits_.may_change_settings = traits_.of_session = traits_.sets = true;
                call_ = Call::config_name;
                return;
            case Call::config_name:
                if (token_.kind == SqlToken::Kind::string && token_.plain) {
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

    void change_unknown() { traits_.may_change_settings = traits_.changes_unknown_setting = traits_.sets = true; }

    // A setting is changed by its name, in any case.
    void touch(std::string_view name) {
        if (equals_folded(name, "search_path") || equals_folded(name, "role") ||
            equals_folded(name, "session_authorization"))
            traits_.resets_context = true;
        for (const std::string_view spelling : {"standard_conforming_strings", "client_encoding", "names"}) {
            traits_.may_change_dialect |= equals_folded(name, spelling);
        }
        if (name.find('.') != std::string_view::npos) traits_.custom_settings.push_back(folded(name));
    }

    void head() {
        switch (token_.keyword) {
            case SqlKeyword::listen:
                traits_.listen = true;
                return;
            case SqlKeyword::set:
                traits_.of_session = true;
                return set_statement();
            case SqlKeyword::reset:
                traits_.of_session = true;
                return reset_statement();
            case SqlKeyword::discard:
                traits_.of_session = traits_.may_unpin = true;
                return discard_statement();
            case SqlKeyword::none:
                if (token_.kind != SqlToken::Kind::word) return;
                if (is_transaction_word(token_.text)) traits_.of_session = true;
                for (const std::string_view word : {"close", "drop", "unlisten"}) traits_.may_unpin |= equals_folded(token_.text, word);
                return;
            case SqlKeyword::deallocate:
                traits_.may_unpin = true;
                return deallocate_statement();
            case SqlKeyword::declare:
                return declare_statement();
            case SqlKeyword::prepare:
                return prepare_statement();
            case SqlKeyword::do_:
            case SqlKeyword::call:
                traits_.creates = true;
                return change_unknown();
            default:
                return;
        }
    }

    void set_statement() {
        advance();
        bool local = false;
        // SESSION is the default scope, and the first word of SESSION AUTHORIZATION and SESSION CHARACTERISTICS.
        while (is_word_of_set(SqlKeyword::local) || is_word_of_set(SqlKeyword::session)) {
            local |= token_.keyword == SqlKeyword::local;
            advance();
        }
        if (is_word_of_set(SqlKeyword::transaction) || is_word_of_set(SqlKeyword::constraints)) return;
        traits_.sets = true;
        if (!local) traits_.may_change_settings = true;
        if (is_word_of_set(SqlKeyword::authorization) || is_word_of_set(SqlKeyword::schema)) {
            traits_.resets_context = true;
        } else {
            setting_name();
        }
        for (; !token_.at_end(); advance()) {
            // A search path that puts unqualified tables into the temporary schema.
            if (token_.kind == SqlToken::Kind::string && token_.text.starts_with("pg_temp"))
                traits_.temporary_object = true;
            if (token_.kind == SqlToken::Kind::word && equals_folded(token_.text, "default")) traits_.goes_back = true;
        }
    }

    void reset_statement() {
        advance();
        traits_.may_change_settings = traits_.goes_back = traits_.sets = true;
        if (token_.keyword == SqlKeyword::all) {
            traits_.resets_context = traits_.may_change_dialect = true;
            advance();
            traits_.reset_all = token_.at_end();
        } else if (is_word_of_set(SqlKeyword::session)) {
            advance();
            if (token_.keyword == SqlKeyword::authorization) traits_.resets_context = true;
        } else {
            setting_name();
            if (token_.at_end() && last_name_ != "role") traits_.reset_name = last_name_;
        }
    }

    // The keyword, and not the beginning of a setting's name as in SET session.user_id = ..
    [[nodiscard]] bool is_word_of_set(SqlKeyword keyword) const { return token_.keyword == keyword && !lexer_.begins_setting_name(); }

    // name ["." name ..], any part quoted or not
    void setting_name() {
        last_name_.clear();
        if (!token_.is_name()) return;
        const std::string_view first = token_.text;
        advance();
        if (!is_dot()) {
            last_name_ = folded(first);
            return touch(first);
        }
        std::string name(first);
        while (is_dot()) {
            advance();
            if (!token_.is_name()) return;
            name.append(".").append(token_.text);
            advance();
        }
        last_name_ = folded(name);
        touch(name);
    }

    [[nodiscard]] bool is_dot() const { return token_.kind == SqlToken::Kind::other && token_.character == '.'; }

    void discard_statement() {
        advance();
        if (token_.keyword != SqlKeyword::all) return;
        traits_.may_change_settings = traits_.resets_context = traits_.goes_back = traits_.may_change_dialect = traits_.sets = true;
        advance();
        traits_.discard_all = token_.at_end();
    }

    void deallocate_statement() {
        advance();
        SqlToken name = token_;
        if (token_.keyword == SqlKeyword::prepare) {
            advance();
            if (token_.is_name()) name = token_;  // else a statement that is called "prepare"
        }
        if (!name.is_name() || name.unicode) return;
        if (!token_.at_end()) advance();
        if (!token_.at_end()) return;
        if (name.keyword == SqlKeyword::all) {
            traits_.deallocate_all = true;
        } else {
            traits_.deallocate_name = folded_name(name);
        }
    }

    void declare_statement() {
        for (SqlKeyword before = SqlKeyword::none; !token_.at_end(); advance()) {
            if (before == SqlKeyword::with && token_.keyword == SqlKeyword::hold) traits_.hold_cursor = true;
            before = token_.keyword;
        }
    }

    // PREPARE TRANSACTION 'id' is another thing; a prepared statement may be called "transaction" all the same.
    void prepare_statement() {
        advance();
        const bool maybe_transaction = token_.keyword == SqlKeyword::transaction;
        if (token_.at_end()) return;
        advance();
        if (!(maybe_transaction && token_.kind == SqlToken::Kind::string)) traits_.sql_prepare = true;
    }

    // What the last token began: a call of which the parenthesis, the name or the comma comes next.
    enum class Call : std::uint8_t { none, advisory_lock, set_config, config_name, config_comma };

    SqlLexer lexer_;
    const SqlToken& token_;  // the lexer's
    StatementTraits traits_;
    std::size_t statements_ = 0;
    SqlKeyword previous_ = SqlKeyword::none;
    Call call_ = Call::none;
    std::string_view config_name_;
    std::string last_name_;  // of the setting that was read last
    bool create_ = false;   // CREATE [OR REPLACE] [LOCAL | GLOBAL] was last
    bool into_ = false;     // INTO [LOCAL | GLOBAL] was last
    bool updates_ = false;  // UPDATE stands in this statement
};

}  // namespace

StatementTraits scan_statement(std::string_view sql, SqlDialect dialect) {
    return ScannedStatement(sql, dialect).traits();
}

const StatementTraits ScannedStatement::plain_ = {.plain = true};

ScannedStatement::ScannedStatement(std::string_view sql, SqlDialect dialect) {
    if (!is_plain_statement(sql, dialect)) own_.emplace(scan_in_full(sql, dialect));
}

std::shared_ptr<const StatementTraits> ScannedStatement::share() const {
    if (own_) return std::make_shared<const StatementTraits>(*own_);
    return {std::shared_ptr<const StatementTraits>(), &plain_};  // nobody counts what is always there
}

StatementTraits scan_in_full(std::string_view sql, SqlDialect dialect) {
    return Scanner(sql, dialect).run();
}

}  // namespace pgporter
