// Names of run-time parameters, as the catalog and the configuration may use them. Pure; any thread.
#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

namespace pgporter {

[[nodiscard]] inline bool is_setting_name(std::string_view name) {
    constexpr std::size_t bytes_max = 63;  // PostgreSQL's NAMEDATALEN - 1
    const auto is_start = [](unsigned char c) { return std::isalpha(c) != 0 || c == '_'; };
    if (name.empty() || name.size() > bytes_max || !is_start(static_cast<unsigned char>(name.front()))) return false;
    return std::all_of(name.begin(), name.end(),
                       [&](unsigned char c) { return is_start(c) || std::isdigit(c) != 0 || c == '.' || c == '$'; });
}

// One that PostgreSQL doesn't know of its own: each part a name, with dots between them. Only such a one has no meaning but its users'.
[[nodiscard]] inline bool is_custom_setting_name(std::string_view name) {
    if (!is_setting_name(name) || name.find('.') == std::string_view::npos || name.back() == '.') return false;
    for (std::size_t i = 0; i + 1 < name.size(); ++i) {
        if (name[i] == '.' && (std::isalpha(static_cast<unsigned char>(name[i + 1])) == 0 && name[i + 1] != '_')) return false;
    }
    return true;
}

// Parameters' names compare without case.
[[nodiscard]] inline std::string folded_setting_name(std::string_view name) {
    std::string lower(name);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return lower;
}

}  // namespace pgporter
