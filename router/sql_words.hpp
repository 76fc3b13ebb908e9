// Which words of PostgreSQL's grammar may stand unquoted for a name, a value or a column's label: the reserved ones of all supported
// versions. Case doesn't matter. Pure; any thread.
#pragma once

#include <string_view>

namespace pgporter {

// Of a savepoint, or a part of a setting's name.
[[nodiscard]] bool may_be_name(std::string_view word);
// Of a setting: SET x TO word.
[[nodiscard]] bool may_be_value(std::string_view word);
// Of a result's column, without AS before it.
[[nodiscard]] bool may_be_label(std::string_view word);

}  // namespace pgporter
