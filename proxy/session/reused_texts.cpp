#include "proxy/session/reused_texts.hpp"

#include <functional>

#include "router/sql_lexer.hpp"

namespace pgporter {

bool is_reusable(std::string_view sql, const StatementTraits& traits) {
    if (!traits.plain || traits.of_session || traits.gives_up || traits.may_change_settings || traits.temporary_object ||
        traits.session_advisory_lock || traits.may_unpin || traits.sql_prepare || !traits.custom_settings.empty()) {
        return false;
    }
    if (depends_on_dialect(sql)) return false;
    bool has_parameter = false;
    SqlLexer lexer(sql);
    for (lexer.next(); lexer.token().kind != SqlToken::Kind::end; lexer.next()) {
        const SqlToken& token = lexer.token();
        if (token.kind == SqlToken::Kind::string || token.unicode) return false;
        // SELECT INTO makes a table.
        if (token.kind == SqlToken::Kind::word && equals_folded(token.text, "into") && !equals_folded(sql.substr(0, 6), "insert")) return false;
        has_parameter |= token.kind == SqlToken::Kind::other && token.text.size() > 1 && token.text.front() == '$';
    }
    return has_parameter && !lexer.broken();
}

StatementPtr ReusedTexts::find(std::string_view owner, std::size_t owner_hash, std::string_view definition, const SessionDialect& spoken,
                               StatementRegistry& registry, const MemoryAccount& account) {
    if (!known_) known_ = std::make_unique<std::array<Known, places>>();
    const std::size_t hash = std::hash<std::string_view>()(definition) ^ (owner_hash * 0x9e3779b97f4a7c15U);
    Known& known = (*known_)[hash % places];
    if (known.hash != hash || known.generation != generation_) {  // for the first time
        known = {hash, generation_, nullptr, false};
        return nullptr;
    }
    if (known.is_refused) return nullptr;
    if (!known.statement) {
        const std::string_view sql = definition.substr(0, definition.find('\0'));
        known.is_refused = !spoken.key.empty() || !is_reusable(sql, scan_statement(sql, spoken.dialect)) ||
                           !account.has_room(StatementRegistry::bytes_of(definition));
        if (known.is_refused) return nullptr;
        known.statement = registry.find_or_create(owner, definition, spoken, account);
    }
    if (known.statement->definition != definition || known.statement->owner != owner || !spoken.key.empty()) return nullptr;
    return known.statement;
}

}  // namespace pgporter
