// search_path as PostgreSQL reads it: a list of identifiers, lower-cased unless quoted. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pgporter {

// Nullopt: PostgreSQL would refuse the list.
[[nodiscard]] std::optional<std::vector<std::string>> split_search_path(std::string_view list);

// Cut where PostgreSQL cuts an identifier: at 63 bytes, not inside a UTF-8 character.
[[nodiscard]] std::string truncated_identifier(std::string name);

}  // namespace pgporter
