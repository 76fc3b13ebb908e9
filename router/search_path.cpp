#include "router/search_path.hpp"

#include <algorithm>

namespace pgporter {
namespace {

constexpr std::size_t identifier_bytes_max = 63;  // PostgreSQL cuts what is longer

bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

void skip_space(std::string_view& rest) {
    while (!rest.empty() && is_space(rest.front())) rest.remove_prefix(1);
}

// `rest` begins with the opening quote. Nullopt: there is no closing one.
std::optional<std::string> take_quoted(std::string_view& rest) {
    std::string name;
    rest.remove_prefix(1);
    for (;;) {
        const auto quote = rest.find('"');
        if (quote == std::string_view::npos) return std::nullopt;
        name += rest.substr(0, quote);
        rest.remove_prefix(quote + 1);
        if (rest.empty() || rest.front() != '"') return name;
        name += '"';  // two quotes stand for one
        rest.remove_prefix(1);
    }
}

std::optional<std::string> take_plain(std::string_view& rest) {
    std::string name;
    while (!rest.empty() && rest.front() != ',' && !is_space(rest.front())) {
        const char c = rest.front();
        name += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        rest.remove_prefix(1);
    }
    return name.empty() ? std::nullopt : std::optional(std::move(name));
}

}  // namespace

std::string truncated_identifier(std::string name) {
    if (name.size() <= identifier_bytes_max) return name;
    std::size_t end = identifier_bytes_max;
    while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0U) == 0x80U) --end;
    name.resize(end);
    return name;
}

std::optional<std::vector<std::string>> split_search_path(std::string_view list) {
    std::vector<std::string> names;
    std::string_view rest = list;
    skip_space(rest);
    if (rest.empty()) return names;
    for (;;) {
        auto name = !rest.empty() && rest.front() == '"' ? take_quoted(rest) : take_plain(rest);
        if (!name) return std::nullopt;
        names.push_back(truncated_identifier(*std::move(name)));
        skip_space(rest);
        if (rest.empty()) return names;
        if (rest.front() != ',') return std::nullopt;
        rest.remove_prefix(1);
        skip_space(rest);  // a comma at the end leaves nothing, and nothing is no name
    }
}

}  // namespace pgporter
