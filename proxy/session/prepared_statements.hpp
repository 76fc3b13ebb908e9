// Prepared statements across pooled server connections. A client's statement name stands for a Statement; the server knows that
// statement under a name of ours. Same text for the same tenant = same Statement, so that sessions share what is prepared.
// Owned by a Worker (registry) and by sessions (names); same thread; pure.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "catalog/snapshot.hpp"
#include "proxy/pool/statement_cache.hpp"
#include "proxy/session/session_dialect.hpp"
#include "proxy/session/statement_scan.hpp"
#include "router/session_statement.hpp"

namespace pgporter {

struct Statement {
    StatementNumber number = 0;
    std::string server_name;  // "PGPORTER_<number>"
    std::string definition;   // a Parse message's body after the name: text and parameter types
    StatementTraits traits;   // of the text
    std::shared_ptr<const SessionStatement> session;  // the text is exactly this; null: it is anything else
    std::string owner;        // see StatementRegistry
    std::string spelling;     // the dialect's key, if the text depends on the dialect
};
using StatementPtr = std::shared_ptr<const Statement>;

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

class StatementRegistry {
  public:
    // `owner` keeps tenants apart: equal texts of two of them are two statements.
    StatementPtr find_or_create(std::string_view owner, std::string_view definition, const SessionDialect& spoken = {}) {
        const std::string_view sql = definition.substr(0, definition.find('\0'));
        const std::string spelling = spoken.key.empty() || !depends_on_dialect(sql) ? std::string() : spoken.key;
        std::string key(owner);
        const auto renewed = renewals_.find(key);
        key += '\0';
        if (renewed != renewals_.end()) key += std::to_string(renewed->second) + '\0';
        key += definition;
        if (!spelling.empty()) key += '\0' + spelling;
        auto& slot = statements_[key];
        if (auto known = slot.lock()) return known;
        auto made = std::make_shared<Statement>();
        made->number = ++last_number_;
        made->server_name = std::string(server_statement_prefix) + std::to_string(made->number);
        made->definition = definition;
        made->traits = scan_statement(sql, spoken.dialect);
        if (made->traits.of_session) made->session = session_statement_of(sql, spoken.dialect);
        made->spelling = spelling;
        made->owner = owner;
        slot = made;
        if (++made_since_sweep_ > 4096) sweep();
        return made;
    }
    // Tables of this owner have changed: what is prepared may have their old shape, which PostgreSQL then refuses to run. A client that
    // prepares from now on sees the new one, so its statement is a new one.
    void renew(const std::string& owner) { ++renewals_[owner]; }
    [[nodiscard]] std::size_t size() const { return statements_.size(); }

  private:
    void sweep() {
        std::erase_if(statements_, [](const auto& entry) { return entry.second.expired(); });
        made_since_sweep_ = 0;
    }
    std::unordered_map<std::string, std::weak_ptr<const Statement>> statements_;
    std::unordered_map<std::string, std::uint64_t> renewals_;  // an owner without an entry: none yet
    StatementNumber last_number_ = 0;
    std::size_t made_since_sweep_ = 0;
};

// A session's names.
using StatementNames = ByName<StatementPtr>;

}  // namespace pgporter
