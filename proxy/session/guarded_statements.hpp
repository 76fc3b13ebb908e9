// guard_statement: does an SQL text leave the role that keeps its tenant apart (isolation `role`), or change the setting that says whose
// rows are whose? Pure; any thread; one pass over the text, no recursion. It sees what stands in the text and refuses what it can't
// judge (a set_config whose name is computed). What a function or a DO block does is out of its sight: docs/isolation.md says so, and
// left_access() looks afterwards.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.hpp"
#include "router/access.hpp"
#include "router/sql_dialect.hpp"

namespace pgporter {

// Null: the text may run. Else the error for the client (42501).
[[nodiscard]] std::optional<Error> guard_statement(std::string_view sql, const Access& access, SqlDialect dialect = {});

// DISCARD ALL in the extended protocol: what follows it before the Sync would run as the login itself. As a simple query it is
// followed by nothing.
[[nodiscard]] std::optional<Error> guard_discard_all(const Access& access);
// For messages that can't be looked at: a function call by number, or a statement too long to be kept.
[[nodiscard]] std::optional<Error> guard_unseen(const Access& access);

}  // namespace pgporter
