// UTF-8 as PostgreSQL takes it: no overlong forms, no surrogates, nothing above U+10FFFF. Pure; any thread.
#pragma once

#include <string_view>

namespace pgporter {

[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace pgporter
