// Prepared statements across pooled server connections. A client's statement name stands for a Statement; the server knows that
// statement under a name of ours. Same text for the same tenant, with values that are read alike = same Statement, so that sessions share what is
// prepared: as the last of them that has parsed it means it (docs/decisions/0021).
// Owned by a Worker (registry) and by sessions (names); same thread; pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "catalog/snapshot.hpp"
#include "proxy/pool/statement_cache.hpp"
#include "proxy/session/memory_budget.hpp"
#include "proxy/session/parse_time.hpp"
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
    std::string reading;      // under which settings its values are read, if any are (parse_time.hpp)
    bool is_private = false;  // one session's: what it means is a matter of the moment in which it is parsed
    std::string spelling;     // the dialect's key, if the text depends on the dialect
    std::uint64_t renewal = 0;  // see StatementRegistry::renew()
    bool has_own_shape = true;  // its description is a matter of tables, so that it may differ from one place or time to another
    MemoryShare share;          // the text
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
    StatementPtr find_or_create(std::string_view owner, std::string_view definition, const SessionDialect& spoken = {}, MemoryAccount account = {},
                                const Reading& reading = {}) {
        const Key key = key_of(owner, definition, spoken, reading);
        if (auto known = reading.is_private ? nullptr : find(key)) return known;
        auto made = std::make_shared<Statement>();
        made->share = MemoryShare(account, bytes_of(definition));
        made->number = last_number_ += step_;
        made->server_name = std::string(server_statement_prefix) + std::to_string(made->number);
        made->definition = definition;
        const std::string_view sql = text_of(definition);
        made->traits = scan_statement(sql, spoken.dialect);
        if (made->traits.of_session) made->session = session_statement_of(sql, spoken.dialect);
        made->spelling = key.spelling;
        made->owner = owner;
        made->reading = key.reading;
        made->is_private = reading.is_private;
        made->renewal = key.renewal;
        made->has_own_shape = has_own_shape(sql, made->session.get());
        if (reading.is_private) return made;
        if (statements_.size() >= sweep_at_) sweep();
        statements_.emplace(key.hash, made);
        return made;
    }
    // Null: nobody has it.
    [[nodiscard]] StatementPtr find(std::string_view owner, std::string_view definition, const SessionDialect& spoken = {},
                                    const Reading& reading = {}) const {
        return reading.is_private ? nullptr : find(key_of(owner, definition, spoken, reading));
    }
    // Tables of this tenant have changed: what is prepared may have their old shape, which PostgreSQL then refuses to run. A client that
    // prepares from now on sees the new one, so its statement is a new one.
    void renew(const std::string& tenant) { ++renewals_[tenant]; }
    [[nodiscard]] std::size_t size() const { return statements_.size(); }
    // What a statement takes, about.
    [[nodiscard]] static std::size_t bytes_of(std::string_view definition) { return definition.size() + 512; }
    [[nodiscard]] ParseSerial next_parse() { return last_parse_ += step_; }

  private:
    struct Key {
        std::string_view owner;
        std::string_view definition;
        std::string_view spelling;
        std::string_view reading;
        std::uint64_t renewal;
        std::size_t hash;
    };
    static std::string_view text_of(std::string_view definition) { return definition.substr(0, definition.find('\0')); }
    [[nodiscard]] Key key_of(std::string_view owner, std::string_view definition, const SessionDialect& spoken, const Reading& reading) const {
        const bool depends = !spoken.key.empty() && depends_on_dialect(text_of(definition));
        const auto renewed = renewals_.find(owner.substr(0, owner.find('\n')));
        Key key{owner,        definition, depends ? std::string_view(spoken.key) : std::string_view(),
                reading.text, renewed == renewals_.end() ? 0 : renewed->second, 0};
        const std::hash<std::string_view> hash;
        key.hash = ((hash(owner) * 31 + hash(definition)) * 31 + hash(key.spelling)) * 31 + hash(key.reading) + key.renewal;
        return key;
    }
    [[nodiscard]] StatementPtr find(const Key& key) const {
        const auto [first, last] = statements_.equal_range(key.hash);
        for (auto at = first; at != last; ++at) {
            auto known = at->second.lock();
            const bool is_it = known && known->definition == key.definition && known->owner == key.owner && known->spelling == key.spelling &&
                               known->reading == key.reading && known->renewal == key.renewal;
            if (is_it) return known;
        }
        return nullptr;
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
        sweep_at_ = std::max(sweep_at_least, 2 * statements_.size());
    }
    static constexpr std::size_t sweep_at_least = 256;
    std::unordered_multimap<std::size_t, std::weak_ptr<const Statement>> statements_;  // by hash; each has its text itself
    ByName<std::uint64_t> renewals_;  // a tenant without an entry: none yet
    std::uint64_t step_;
    StatementNumber last_number_;
    ParseSerial last_parse_;
    std::size_t sweep_at_ = sweep_at_least;
};

// A session's names.
struct NamedStatement {
    StatementPtr statement;  // what stands for it where the session is now
    Told told;
    MemoryShare share = {};
    ParseMoment since = 0;   // when the client has parsed it: what was parsed before doesn't stand for it
    StatementPtr parsed = nullptr;  // as the client has parsed it, where that is another one; see Session::statement_here()
    [[nodiscard]] const StatementPtr& as_parsed() const { return parsed ? parsed : statement; }
};
using StatementNames = ByName<NamedStatement>;

}  // namespace pgporter
