// Host names as TLS clients send them (SNI). Pure; any thread.
#pragma once

#include <string_view>

namespace pgporter {

// Letters in lower case, digits and hyphens in labels of 1 to 63; at most 253 characters; no dot at the end, no address.
[[nodiscard]] inline bool is_host_name(std::string_view name) {
    constexpr std::size_t name_max = 253;
    constexpr std::size_t label_max = 63;
    if (name.empty() || name.size() > name_max) return false;
    std::size_t label = 0;
    bool last_label_has_letter = false;
    char before = '.';
    for (const char c : name) {
        const bool letter = c >= 'a' && c <= 'z';
        if (c == '.') {
            if (label == 0 || before == '-') return false;
            label = 0;
            last_label_has_letter = false;
        } else if (letter || (c >= '0' && c <= '9') || (c == '-' && label > 0) || c == '_') {
            if (++label > label_max) return false;
            last_label_has_letter = last_label_has_letter || letter;
        } else {
            return false;
        }
        before = c;
    }
    return label > 0 && before != '-' && last_label_has_letter;
}

}  // namespace pgporter
