// Does a search_path lead to a tenant that the session can't be served for? A tenant is named at login. Within one shared database a path may name
// another tenant's schema, as on PostgreSQL itself, if the user may speak for it; one that lives elsewhere must not be read from where it no
// longer lives. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "catalog/snapshot.hpp"
#include "proxy/session/statement_scan.hpp"

namespace pgporter {

struct Standpoint {
    std::string_view tenant;  // empty: none
    std::string_view cluster;
    std::string_view database;
    const User* user = nullptr;  // null: may speak for all
};

// For a statement whose traits say that it sets the path or one of our own parameters: the error, if a name or string in it is the schema
// of such a tenant. Too strict rather than too lax.
[[nodiscard]] std::optional<Error> turns_to_foreign_tenant(std::string_view sql, const StatementTraits& traits, const Snapshot& snapshot,
                                                           const Standpoint& here, SqlDialect dialect = {});
// The same for a search_path value that is in force already.
[[nodiscard]] std::optional<Error> names_foreign_tenant(std::string_view search_path, const Snapshot& snapshot, const Standpoint& here);

}  // namespace pgporter
