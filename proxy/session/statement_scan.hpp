// scan_statement: one pass over an SQL text that says what it may do to the session it runs in. Pure; any thread;
// linear in the text, no recursion, no allocation for a text that touches no setting. It is no parser: it knows
// comments, strings, quoted names, dollar quotes, keywords and where statements end, in the session's dialect.
// It sees what stands in the text; what a function does inside is out of its sight, and the reset of a server
// connection between sessions covers that.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/sql_dialect.hpp"

namespace pgporter {

struct StatementTraits {
    // Some statement of the text begins like one about the session or its transaction (SET, RESET, DISCARD, BEGIN, COMMIT ..), or set_config
    // is called: worth a closer look (router/session_statement).
    bool of_session = false;

    // The text is one SELECT, INSERT, UPDATE, DELETE or WITH: it may run in one transaction with what was sent before it.
    bool plain = false;

    // UNLISTEN, CLOSE, DEALLOCATE, DISCARD, DROP, ROLLBACK and the like: it reads nothing, and may give up what pins the session.
    bool gives_up = false;

    // CREATE, or INTO that isn't INSERT's or MERGE's, stands in it; DO and CALL may do anything.
    bool creates = false;

    // Reasons to pin the session, true if any statement in the text is one.
    bool listen = false;            // LISTEN
    bool temporary_object = false;  // CREATE [LOCAL|GLOBAL] TEMP|TEMPORARY .., SELECT .. INTO TEMP, the name pg_temp
    bool hold_cursor = false;       // DECLARE .. WITH HOLD
    bool session_advisory_lock = false;  // pg_[try_]advisory_lock[_shared] called; the _xact_ ones end by themselves
    bool sql_prepare = false;            // PREPARE name AS; not PREPARE TRANSACTION

    // May give up what pins a session: CLOSE, DEALLOCATE, DROP, UNLISTEN, DISCARD, a call of pg_advisory_unlock[_shared|_all].
    bool may_unpin = false;

    // SET (not SET LOCAL, SET TRANSACTION, SET CONSTRAINTS), RESET, DISCARD ALL, a call of set_config, DO, CALL.
    bool may_change_settings = false;
    // set_config whose name isn't a plain string literal, UPDATE pg_settings, DO, CALL, a setting named with Unicode
    // escapes.
    bool changes_unknown_setting = false;
    std::vector<std::string>
        custom_settings;  // names with a dot that SET, RESET or set_config('..') touch (LOCAL too), in lower case
    // Who the session is or which schemas it sees changes: SET or RESET of search_path, role or session authorization
    // in any spelling (SET SCHEMA and set_config too), RESET ALL, DISCARD ALL. With SET LOCAL as well: that alone
    // leaves may_change_settings false, so the two together tell whether the change outlives the transaction.
    bool resets_context = false;

    // SET or RESET of a setting, for the transaction alone as well, DISCARD, set_config, or what may do such a thing.
    bool sets = false;

    // What is read behind it may be read in another dialect: standard_conforming_strings or client_encoding changes, or any setting may.
    bool may_change_dialect = false;

    // RESET, SET .. TO DEFAULT, DISCARD ALL: something becomes the server's own default, which is not what the session began with.
    bool goes_back = false;

    // The whole text is exactly one such statement (comments, white space and semicolons around it don't count).
    bool discard_all = false;
    bool reset_all = false;
    bool deallocate_all = false;
    std::string reset_name;       // RESET name, in lower case; not ALL, ROLE or SESSION AUTHORIZATION
    std::string deallocate_name;  // DEALLOCATE [PREPARE] name, folded or unquoted as PostgreSQL does it

    bool empty = false;  // no statement at all
    friend bool operator==(const StatementTraits&, const StatementTraits&) = default;
};

[[nodiscard]] StatementTraits scan_statement(std::string_view sql, SqlDialect dialect = {});
// The same for many texts a second: plain and nothing else, which most are, is one object for all.
class ScannedStatement {
  public:
    explicit ScannedStatement(std::string_view sql, SqlDialect dialect = {});
    [[nodiscard]] const StatementTraits& traits() const { return own_ ? *own_ : plain_; }
    [[nodiscard]] std::shared_ptr<const StatementTraits> share() const;  // for who keeps them

  private:
    static const StatementTraits plain_;
    std::optional<StatementTraits> own_;
};

// As scan_statement, without the short way that most texts take (plain_statement.hpp): comes to the same.
[[nodiscard]] StatementTraits scan_in_full(std::string_view sql, SqlDialect dialect = {});

}  // namespace pgporter
