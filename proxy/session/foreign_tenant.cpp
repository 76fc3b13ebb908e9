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
                                             const Standpoint& here) {
    for (const std::string& name : traits.custom_settings) {
        if (!name.starts_with("pgporter.")) continue;
        return fail(ErrorKind::invalid, "parameter \"" + name + "\" can't be changed by SQL", {}, "name the tenant at login", "0A000");
    }
    if (!traits.resets_context) return std::nullopt;
    SqlLexer lexer(sql);
    for (lexer.next(); lexer.token().kind != SqlToken::Kind::end; lexer.next()) {
        const SqlToken& token = lexer.token();
        std::optional<Error> error;
        if (token.kind == SqlToken::Kind::word) {
            error = check_schema(folded(token.text), snapshot, here);
        } else if (token.kind == SqlToken::Kind::quoted) {
            error = check_schema(std::string(token.text), snapshot, here);
        } else if (token.kind == SqlToken::Kind::string) {
            error = check_schema(std::string(token.text), snapshot, here);  // SET search_path TO 'acme'
            if (!error) error = names_foreign_tenant(token.text, snapshot, here);  // set_config('search_path', 'acme, public', ..)
        }
        if (error) return error;
    }
    return std::nullopt;
}

}  // namespace pgporter
