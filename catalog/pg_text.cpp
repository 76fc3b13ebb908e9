// The pure part of catalog/pg_connection.hpp: quoting, array literals, what an SQLSTATE means.
#include <utility>

#include "base/assert.hpp"
#include "catalog/pg_connection.hpp"

namespace pgporter {

ErrorKind kind_of_sqlstate(std::string_view sqlstate) {
    const auto is_class = [&](std::string_view prefix) { return sqlstate.starts_with(prefix); };
    if (sqlstate == "57014" || sqlstate == "55P03") return ErrorKind::timeout;  // statement_timeout and lock_timeout
    if (is_class("08") || is_class("53") || is_class("57") || is_class("58")) return ErrorKind::unavailable;
    if (is_class("28")) return ErrorKind::unavailable;  // our own login, not that of whoever asked us
    if (is_class("23") || is_class("40") || sqlstate == "55006") return ErrorKind::conflict;
    if (sqlstate == "42501") return ErrorKind::forbidden;
    if (sqlstate == "3D000" || sqlstate == "3F000" || sqlstate == "42P01" || sqlstate == "42704")
        return ErrorKind::not_found;
    if (is_class("22")) return ErrorKind::invalid;
    return ErrorKind::internal;
}

std::string quote_ident(std::string_view identifier) {
    std::string quoted = "\"";
    for (const char c : identifier) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    return quoted + '"';
}

std::string quote_literal(std::string_view text) {
    const bool escapes = text.find('\\') != std::string_view::npos;
    std::string quoted = escapes ? " E'" : "'";  // the space: E must not stick to a word before it
    for (const char c : text) {
        if (c == '\'' || c == '\\') quoted += c;
        quoted += c;
    }
    return quoted + '\'';
}

std::string to_array_literal(const std::vector<std::string>& items) {
    std::string literal = "{";
    for (const auto& item : items) {
        if (literal.size() > 1) literal += ',';
        literal += '"';
        for (const char c : item) {
            if (c == '"' || c == '\\') literal += '\\';
            literal += c;
        }
        literal += '"';
    }
    return literal + '}';
}

std::vector<std::string> from_array_literal(std::string_view literal) {
    std::vector<std::string> items;
    if (literal.size() <= 2) return items;
    PP_ASSERT(literal.front() == '{' && literal.back() == '}');
    std::string item;
    bool quoted = false;
    const std::string_view body = literal.substr(1, literal.size() - 2);
    for (std::size_t i = 0; i < body.size(); ++i) {
        const char c = body[i];
        if (c == '\\' && i + 1 < body.size()) {
            item += body[++i];
        } else if (c == '"') {
            quoted = !quoted;
        } else if (c == ',' && !quoted) {
            items.push_back(std::exchange(item, {}));
        } else {
            item += c;
        }
    }
    items.push_back(std::move(item));
    return items;
}

}  // namespace pgporter
