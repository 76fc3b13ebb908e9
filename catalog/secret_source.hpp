// Where a secret in the configuration comes from: `<prefix>` (inline), `<prefix>_file` (its first line) or
// `<prefix>_env`. Start-up only. What is read never becomes part of a problem's text.
#pragma once

#include <string>
#include <string_view>

#include "base/secret.hpp"
#include "catalog/yaml_reader.hpp"

namespace pgporter {

struct SecretRule {
    bool inline_allowed = false;
    bool required = true;
};

// At most one source may be given; none leaves an empty secret (a problem if it is required).
[[nodiscard]] Secret read_secret(YamlMapping& mapping, std::string_view prefix, const SecretRule& rule,
                                 const std::string& directory);

// `path`, taken relative to `directory` unless it is absolute or empty.
[[nodiscard]] std::string resolve_path(const std::string& path, const std::string& directory);

}  // namespace pgporter
