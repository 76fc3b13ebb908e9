// SessionStatement: a statement about the session or its transaction, understood as PostgreSQL's grammar has it: SET, RESET, set_config,
// DISCARD ALL, BEGIN and what belongs to it. Pure values, made by recognise(); any thread. It knows no configuration: which of the
// settings name a tenant is router/tenant_in_sql's to say. Whatever isn't understood to the last token is `other`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/sql_dialect.hpp"

namespace pgporter {

enum class SessionVerb : std::uint8_t {
    other,
    begin,            // BEGIN, START TRANSACTION, with modes
    set_transaction,  // SET TRANSACTION with modes; not SNAPSHOT
    commit,           // COMMIT, END
    rollback,         // ROLLBACK, ABORT
    savepoint,
    release,
    rollback_to,
    set,         // SET name, SET SCHEMA, RESET name: one change
    set_config,  // SELECT of set_config calls and of nothing else: one change a call
    reset_all,
    discard_all
};

// A piece of a set_config call: what stands there, or which bind parameter ($n, from 1 on). Pairs: the parameter is a JSON array of
// [name, value], as PostGraphile has it; it stands for as many changes as it has elements.
struct SettingOperand {
    enum class Kind : std::uint8_t { text, parameter, null, pairs } kind = Kind::text;
    std::string text;
    std::uint16_t parameter = 0;
};

struct SettingChange {
    SettingOperand name;   // text: as PostgreSQL compares it, in lower case
    SettingOperand value;  // null: back to the default (RESET, TO DEFAULT). search_path is a list as SHOW prints it
    SettingOperand local;  // text "true" or "false"; true: until the transaction ends
    std::string column;    // set_config: the name of the result's column
};

struct SessionStatement {
    SessionVerb verb = SessionVerb::other;
    std::string text;       // without comments around it and semicolon
    std::size_t begin = 0;  // where it starts in the whole text
    std::string savepoint;  // its name, folded unless quoted
    bool chain = false;     // COMMIT or ROLLBACK AND CHAIN
    // Understood, but never to be answered without a server: it may refuse the text all the same (not UTF-8, a vertical tab), has a
    // notice to give (a name is cut), or the result isn't one row.
    bool needs_server = false;
    std::vector<SettingChange> changes;
    // `other`: names of settings that a call of set_config, or a SET that isn't understood, changes to something that isn't known.
    std::vector<std::string> computed;
};

// A change with what the bind parameters gave.
struct ResolvedChange {
    std::string name;
    std::optional<std::string> value;  // nullopt: back to the default
    bool is_local = false;
};

using BindValues = std::vector<std::optional<std::string>>;

// Nullopt: a parameter that isn't there, one that is null where none may be, or no list of pairs.
[[nodiscard]] std::optional<std::vector<ResolvedChange>> resolve(const SessionStatement& statement, const BindValues& values);

// The statements of the text, in order; empty ones are left out. A text that PostgreSQL's lexer would refuse is one `other`.
// In another encoding than UTF-8 the values of settings are understood as far as they are ASCII.
[[nodiscard]] std::vector<SessionStatement> recognise(std::string_view sql, SqlDialect dialect = {});

// A quick look at its first word: false means that recognise() would only find `other` there.
[[nodiscard]] bool is_transaction_word(std::string_view word);

}  // namespace pgporter
