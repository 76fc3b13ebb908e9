// The catalog's schema `pgporter` and its versions. Each migration is one transaction under an advisory lock, so
// instances that start together don't collide; each is append only: what was released is never edited. Blocking;
// control-plane threads only.
#pragma once

#include <span>
#include <string_view>

#include "base/result.hpp"
#include "catalog/pg_connection.hpp"

namespace pgporter {

struct Migration {
    int version;
    std::string_view sql;
};
[[nodiscard]] std::span<const Migration> migrations();

// Brings the schema to the newest version. invalid: the schema is newer than this program knows.
[[nodiscard]] Result<void> migrate(PgConnection& connection);

}  // namespace pgporter
