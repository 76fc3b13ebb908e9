// Shell completion scripts for the subcommands and their options. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pgporter {

struct CompletionEntry {
    std::string command;
    std::string description;
    std::vector<std::string> options;
};

// `shell` is bash, zsh or fish; "" for another.
[[nodiscard]] std::string completion_script(std::string_view shell, const std::vector<CompletionEntry>& entries);

}  // namespace pgporter
