// Reads pgporter.yaml into a Config. Every error names file, line and key ("pgporter.yaml:12: limits.sesions_max: unknown key;
// did you mean sessions_max?"). Unknown keys, wrong types, out-of-range numbers, missing files and contradictions are errors. Start-up only.
#pragma once

#include <string>

#include "base/result.hpp"
#include "catalog/config.hpp"

namespace pgporter {

[[nodiscard]] Result<Config> load_config(const std::string& path);
// `name` stands for the file in errors. Relative *_file paths are taken relative to `directory`.
[[nodiscard]] Result<Config> parse_config(const std::string& yaml, const std::string& name, const std::string& directory);

}  // namespace pgporter
