#include "proxy/pool/context.hpp"

#include <algorithm>

namespace pgporter {
namespace {

char lower(char c) {
    return (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
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
    sql += context.search_path.empty()
               ? std::string(", pg_catalog.current_setting('search_path')")
               : ", pg_catalog.set_config('search_path', " + sql_literal(context.search_path) + ", false)";
    for (const auto& [name, value] : context.settings) {
        sql += ", pg_catalog.set_config(" + sql_literal(name) + ", " + sql_literal(value) + ", false)";
    }
    return sql;
}

bool is_proof(const Context& context, const std::vector<std::optional<std::string>>& row) {
    if (row.size() != 2 + context.settings.size()) return false;
    const std::string wanted_role = context.role.empty() ? "none" : context.role;
    if (!row[0] || *row[0] != wanted_role) return false;
    if (!row[1] || (!context.search_path.empty() && *row[1] != context.search_path)) return false;
    return std::all_of(row.begin() + 2, row.end(), [](const auto& value) { return value.has_value(); });
}

}  // namespace pgporter
