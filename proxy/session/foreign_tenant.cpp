#include "proxy/session/foreign_tenant.hpp"

#include <algorithm>

#include "router/sql_lexer.hpp"
#include "router/search_path.hpp"

namespace pgporter {
namespace {

bool may_speak_for(const User* user, const std::string& tenant) {
    return user == nullptr || user->all_tenants || std::find(user->tenants.begin(), user->tenants.end(), tenant) != user->tenants.end();
}

std::optional<Error> check_schema(const std::string& schema, const Snapshot& snapshot, const Standpoint& here) {
    const std::vector<TenantPtr> owners = snapshot.tenants_of_schema(schema);
    const bool is_reachable = std::any_of(owners.begin(), owners.end(), [&](const TenantPtr& owner) {
        if (owner->name == here.tenant) return true;
        return owner->placement.cluster == here.cluster && owner->placement.database == here.database && may_speak_for(here.user, owner->name);
    });
    if (owners.empty() || is_reachable) return std::nullopt;
    const std::string who = here.tenant.empty() ? "no tenant" : "tenant \"" + std::string(here.tenant) + "\"";
    return fail(ErrorKind::invalid,
                "search_path names schema \"" + schema + "\" of a tenant that this session can't be served for: it speaks for " + who, {},
                "connect again and name the other tenant at login", "0A000");
}

// PostgreSQL reads it, but it may name anybody.
Error unreadable() {
    return fail(ErrorKind::invalid, "search_path can't be set by a text with escapes or, in another client_encoding than UTF8, beyond ASCII", {},
                "write the schemas' names as they are, in UTF8", "0A000");
}

}  // namespace

std::optional<Error> names_foreign_tenant(std::string_view search_path, const Snapshot& snapshot, const Standpoint& here) {
    const auto schemas = split_search_path(search_path);
    if (!schemas) return std::nullopt;
    for (const std::string& schema : *schemas) {
        if (auto error = check_schema(schema, snapshot, here)) return error;
    }
    return std::nullopt;
}

std::optional<Error> turns_to_foreign_tenant(std::string_view sql, const StatementTraits& traits, const Snapshot& snapshot,
                                             const Standpoint& here, SqlDialect dialect) {
    for (const std::string& name : traits.custom_settings) {
        if (!name.starts_with("pgporter.")) continue;
        return fail(ErrorKind::invalid, "parameter \"" + name + "\" can't be changed by SQL", {}, "name the tenant at login", "0A000");
    }
    if (!traits.resets_context) return std::nullopt;
    SqlLexer lexer(sql, dialect);
    for (lexer.next(); lexer.token().kind != SqlToken::Kind::end; lexer.next()) {
        const SqlToken& token = lexer.token();
        std::optional<Error> error;
        if (token.is_name() || token.kind == SqlToken::Kind::string) {
            const std::optional<std::string> value = token_value(token);
            if (!value || (dialect.encoding != SqlEncoding::utf8 && !is_ascii(*value))) return unreadable();
            error = check_schema(*value, snapshot, here);  // SET search_path TO 'acme'
            if (!error && token.kind == SqlToken::Kind::string) error = names_foreign_tenant(*value, snapshot, here);  // set_config('..', 'acme, public', ..)
        }
        if (error) return error;
    }
    return std::nullopt;
}

}  // namespace pgporter
