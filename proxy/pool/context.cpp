#include "proxy/pool/context.hpp"

#include <algorithm>
#include <cstdint>

#include "base/utf8.hpp"

namespace pgporter {
namespace {

char lower(char c) {
    return (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_ascii_text(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace

bool same_name(std::string_view a, std::string_view b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

bool is_utf8_name(std::string_view value) {
    std::string plain;
    for (const char c : value) {
        if (c != '-' && c != '_' && c != '\'' && c != '"') plain += c;
    }
    return same_name(plain, "UTF8") || same_name(plain, "UNICODE");
}

std::string sql_literal(std::string_view text) {
    const bool has_backslash = text.find('\\') != std::string_view::npos;
    std::string quoted = has_backslash ? "E'" : "'";
    for (const char c : text) {
        if (c == '\'' || c == '\\') quoted += c;
        quoted += c;
    }
    quoted += '\'';
    return quoted;
}

std::string ascii_sql_literal(std::string_view utf8) {
    if (is_ascii_text(utf8)) return sql_literal(utf8);
    constexpr std::string_view digits = "0123456789abcdef";
    const bool is_valid = is_utf8(utf8);
    std::string quoted = "E'";
    const auto put_hex = [&](std::uint32_t value, int count) {
        while (count-- > 0) quoted += digits[value >> (4 * count) & 0xFU];
    };
    for (std::size_t i = 0; i < utf8.size();) {
        const auto byte = static_cast<unsigned char>(utf8[i]);
        if (byte < 0x80) {
            if (byte == '\'' || byte == '\\') quoted += utf8[i];
            quoted += utf8[i++];
            continue;
        }
        if (!is_valid) {  // PostgreSQL refuses it
            quoted += "\\x";
            put_hex(byte, 2);
            ++i;
            continue;
        }
        const int more = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : 1;
        std::uint32_t character = byte & (0x3FU >> more);
        for (int k = 0; k < more; ++k) character = character << 6 | (static_cast<unsigned char>(utf8[++i]) & 0x3FU);
        ++i;
        quoted += "\\U";
        put_hex(character, 8);
    }
    return quoted + '\'';
}

std::string sql_identifier(std::string_view text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"') quoted += c;
        quoted += c;
    }
    quoted += '"';
    return quoted;
}

void put_setting(Settings& settings, std::string_view name, std::string_view value) {
    for (auto& [known, held] : settings) {
        if (same_name(known, name)) {
            held = value;
            return;
        }
    }
    settings.emplace_back(name, value);
}

const std::string* find_setting(const Settings& settings, std::string_view name) {
    for (const auto& [known, held] : settings) {
        if (same_name(known, name)) return &held;
    }
    return nullptr;
}

std::string reset_sql() {
    // DISCARD ALL in parts: it can't run together with others, and it would drop the statements that we keep prepared.
    return "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES; "
           "SELECT pg_catalog.pg_advisory_unlock_all()";
}

std::string set_sql(const Context& context) {
    std::string sql;
    if (!context.role.empty()) sql += "SET SESSION ROLE " + sql_identifier(context.role) + "; ";
    sql += "SELECT pg_catalog.current_setting('role')";
    if (context.has_empty_path) {
        sql += ", pg_catalog.set_config('search_path', '', false)";
    } else if (context.search_path.empty()) {
        sql += ", pg_catalog.current_setting('search_path')";
    } else {
        const std::string path = ascii_sql_literal(context.search_path);
        sql += ", pg_catalog.set_config('search_path', " + path + ", false)";
        // The answer comes in the client's encoding: what isn't ASCII is compared over there.
        if (!is_ascii_text(context.search_path)) sql += " OPERATOR(pg_catalog.=) " + path;
    }
    for (const auto& [name, value] : context.settings) {
        sql += ", pg_catalog.set_config(" + ascii_sql_literal(name) + ", " + ascii_sql_literal(value) + ", false)";
    }
    return sql;
}

bool is_proof(const Context& context, const std::vector<std::optional<std::string>>& row) {
    if (row.size() != 2 + context.settings.size()) return false;
    const std::string wanted_role = context.role.empty() ? "none" : context.role;
    if (!row[0] || *row[0] != wanted_role) return false;
    const std::string_view wanted_path = is_ascii_text(context.search_path) ? std::string_view(context.search_path) : "t";
    if (!row[1] || (!context.search_path.empty() && *row[1] != wanted_path)) return false;
    if (context.has_empty_path && !row[1]->empty()) return false;
    return std::all_of(row.begin() + 2, row.end(), [](const auto& value) { return value.has_value(); });
}

}  // namespace pgporter
