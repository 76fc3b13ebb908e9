// The SET that does what set_config(name, value, false) does, for half its price: PostgreSQL runs no query for it. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "catalog/sql_identifier.hpp"
#include "proxy/pool/context.hpp"
#include "router/search_path.hpp"

namespace pgporter {

// Empty: no SET is sure to make this value of it, to the byte. `name` as PostgreSQL compares it, in lower case.
[[nodiscard]] inline std::string set_statement_sql(std::string_view name, std::string_view value) {
    constexpr std::size_t name_bytes_max = 63;
    if (value.find('\0') != std::string_view::npos || name.find('\0') != std::string_view::npos) return {};
    if (name == "search_path") {
        const auto schemas = split_search_path(value);
        if (!schemas || schemas->empty()) return {};
        std::string literals;
        std::string shown;  // what PostgreSQL makes of them
        for (const std::string& schema : *schemas) {
            literals += (literals.empty() ? "" : ", ") + sql_literal(schema);
            shown += (shown.empty() ? "" : ", ") + quote_ident_where_needed(schema);
        }
        return shown == value ? "SET SESSION search_path TO " + literals : std::string();
    }
    if (name.find('.') == std::string_view::npos) return {};  // some built-in settings are lists
    std::string quoted;
    for (std::string_view rest = name;;) {
        const auto dot = rest.find('.');
        const std::string_view part = rest.substr(0, dot);
        if (part.empty() || part.size() > name_bytes_max) return {};
        quoted += (quoted.empty() ? "" : ".") + sql_identifier(part);
        if (dot == std::string_view::npos) break;
        rest.remove_prefix(dot + 1);
    }
    return "SET SESSION " + quoted + " TO " + sql_literal(value);
}

}  // namespace pgporter
