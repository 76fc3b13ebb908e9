// Prepared statements across pooled server connections. A client's statement name stands for a Statement; the server knows that
// statement under a name of ours. Same text for the same tenant = same Statement, so that sessions share what is prepared.
// Owned by a Worker (registry) and by sessions (names); same thread; pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "catalog/snapshot.hpp"
#include "proxy/pool/statement_cache.hpp"
#include "proxy/session/memory_budget.hpp"
#include "proxy/session/session_dialect.hpp"
#include "proxy/session/statement_scan.hpp"
#include "router/session_statement.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {

struct Statement {
    StatementNumber number = 0;
    std::string server_name;  // "PGPORTER_<number>"
    std::string definition;   // a Parse message's body after the name: text and parameter types
    StatementTraits traits;   // of the text
    std::shared_ptr<const SessionStatement> session;  // the text is exactly this; null: it is anything else
    std::string owner;        // see StatementRegistry
    std::string spelling;     // the dialect's key, if the text depends on the dialect
    bool has_own_shape = true;  // its description is a matter of tables, so that it may differ from one place or time to another
    MemoryShare share;          // the text, here and as the registry's key
    mutable DescriptionPtr last_description;  // as some server connection had it last: equal ones are one value in memory
};
using StatementPtr = std::shared_ptr<const Statement>;

// What a client knows of a statement.
struct Told {
    ParseSerial by = 0;   // the Parse whose description it was told, or is being told; 0: none
    DescriptionPtr what;  // null: nothing yet
    bool knows_parameters = false;  // by a Describe of its own; else it was only used, which fixes the result
};

// The unnamed statement lives for one query mostly: what was told is kept as it came, and looked into if it is needed.
struct UnnamedTold {
    static constexpr ParseSerial by_none_that_is_left = ~ParseSerial{0};
    ParseSerial by = 0;
    std::string parameters;  // ParameterDescription's body; empty: not told
    std::string results;     // RowDescription's body, no_results or (is_short) what results_of() makes of it; empty: not told
    bool is_short = false;
    void clear() {
        by = 0;
        parameters.clear();
        results.clear();
        is_short = false;
    }
};

// Null: the text isn't exactly one statement about the session or its transaction.
[[nodiscard]] inline std::shared_ptr<const SessionStatement> session_statement_of(std::string_view sql, SqlDialect dialect = {}) {
    std::vector<SessionStatement> statements = recognise(sql, dialect);
    if (statements.size() != 1 || (statements.front().verb == SessionVerb::other && statements.front().computed.empty())) return nullptr;
    return std::make_shared<const SessionStatement>(std::move(statements.front()));
}

// PostgreSQL tells statement names apart by their first 63 bytes.
[[nodiscard]] inline std::string_view statement_key(std::string_view name) {
    return name.substr(0, 63);
}

inline constexpr std::string_view server_statement_prefix = "PGPORTER_";

// Tags of replies from here on: descriptions of the unnamed statement, whose number is in the rest of the tag.
inline constexpr std::uint32_t first_unnamed_tag = 0x8000'0000U;

class StatementRegistry {
  public:
    // Server connections go from thread to thread with what is prepared on them: no two of `registries` give the same number.
    explicit StatementRegistry(std::size_t index = 0, std::size_t registries = 1) : step_(registries), last_number_(index), last_parse_(index) {}
    // `owner` keeps tenants apart: equal texts of two of them are two statements. Its first line is the tenant.
    StatementPtr find_or_create(std::string_view owner, std::string_view definition, const SessionDialect& spoken = {}, MemoryAccount account = {}) {
        const std::string_view sql = definition.substr(0, definition.find('\0'));
        const std::string spelling = spelling_of(sql, spoken);
        const std::string key = key_of(owner, definition, spelling);
        auto& slot = statements_[key];
        if (auto known = slot.lock()) return known;
        auto made = std::make_shared<Statement>();
        made->share = MemoryShare(account, bytes_of(definition));
        made->number = last_number_ += step_;
        made->server_name = std::string(server_statement_prefix) + std::to_string(made->number);
        made->definition = definition;
        made->traits = scan_statement(sql, spoken.dialect);
        if (made->traits.of_session) made->session = session_statement_of(sql, spoken.dialect);
        made->spelling = spelling;
        made->owner = owner;
        made->has_own_shape = has_own_shape(sql, made->session.get());
        slot = made;
        // The keys of statements that nobody has any more are as long as these were.
        bytes_since_sweep_ += key.size();
        if (++made_since_sweep_ > 4096 || bytes_since_sweep_ > std::max(sweep_bytes_min, bytes_at_sweep_)) sweep();
        return made;
    }
    // Null: nobody has it.
    [[nodiscard]] StatementPtr find(std::string_view owner, std::string_view definition, const SessionDialect& spoken = {}) const {
        const auto at = statements_.find(key_of(owner, definition, spelling_of(definition.substr(0, definition.find('\0')), spoken)));
        return at == statements_.end() ? nullptr : at->second.lock();
    }
    // Tables of this tenant have changed: what is prepared may have their old shape, which PostgreSQL then refuses to run. A client that
    // prepares from now on sees the new one, so its statement is a new one.
    void renew(const std::string& tenant) { ++renewals_[tenant]; }
    [[nodiscard]] std::size_t size() const { return statements_.size(); }
    // What a statement takes, about.
    [[nodiscard]] static std::size_t bytes_of(std::string_view definition) { return 2 * definition.size() + 512; }
    [[nodiscard]] ParseSerial next_parse() { return last_parse_ += step_; }

  private:
    static std::string spelling_of(std::string_view sql, const SessionDialect& spoken) {
        return spoken.key.empty() || !depends_on_dialect(sql) ? std::string() : spoken.key;
    }
    [[nodiscard]] std::string key_of(std::string_view owner, std::string_view definition, const std::string& spelling) const {
        std::string key(owner);
        const auto renewed = renewals_.find(owner.substr(0, owner.find('\n')));
        key += '\0';
        if (renewed != renewals_.end()) key += std::to_string(renewed->second) + '\0';
        key += definition;
        if (!spelling.empty()) key += '\0' + spelling;
        return key;
    }
    // FETCH has its cursor's columns, which PostgreSQL doesn't compare either.
    static bool has_own_shape(std::string_view sql, const SessionStatement* session) {
        if (session != nullptr && session->verb != SessionVerb::other) return false;
        SqlLexer lexer(sql);
        lexer.next();
        return lexer.token().kind != SqlToken::Kind::word || !equals_folded(lexer.token().text, "fetch");
    }
    void sweep() {
        std::erase_if(statements_, [](const auto& entry) { return entry.second.expired(); });
        made_since_sweep_ = 0;
        bytes_since_sweep_ = 0;
        bytes_at_sweep_ = 0;
        for (const auto& entry : statements_) bytes_at_sweep_ += entry.first.size();
    }
    static constexpr std::size_t sweep_bytes_min = 1U << 20;
    std::unordered_map<std::string, std::weak_ptr<const Statement>> statements_;
    ByName<std::uint64_t> renewals_;  // a tenant without an entry: none yet
    std::uint64_t step_;
    StatementNumber last_number_;
    ParseSerial last_parse_;
    std::size_t made_since_sweep_ = 0;
    std::size_t bytes_since_sweep_ = 0;
    std::size_t bytes_at_sweep_ = 0;  // of those that were left then
};

// A session's names.
struct NamedStatement {
    StatementPtr statement;  // what stands for it where the session is now
    Told told;
    MemoryShare share = {};
    StatementPtr parsed = nullptr;  // as the client has parsed it, where that is another one; see Session::statement_here()
    [[nodiscard]] const StatementPtr& as_parsed() const { return parsed ? parsed : statement; }
};
using StatementNames = ByName<NamedStatement>;

}  // namespace pgporter
