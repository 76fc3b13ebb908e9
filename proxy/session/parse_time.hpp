// What the meaning of a text depends on at the moment in which PostgreSQL parses it: a string that becomes a value of some type does so then,
// by the session's DateStyle, TimeZone and so on ('01/02/2020'), and some strings are the moment itself ('now'). Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "proxy/pool/context.hpp"
#include "router/sql_dialect.hpp"

namespace pgporter {

enum class ParseTime : std::uint8_t {
    nothing,   // it has no string in it
    settings,  // strings: equal settings, equal values
    moment     // 'now', 'today' .., or a string in a spelling that isn't read here
};

[[nodiscard]] ParseTime parse_time_of(std::string_view sql, SqlDialect dialect = {});

// How a session reads values at present. Statements that were parsed under different readings are different statements.
struct Reading {
    std::string text;         // empty: nothing to be read
    bool is_private = false;  // equal to no other
};

// `reported`: by the server, or null; `settings`: what the session has set, or began with.
[[nodiscard]] std::string reading_text(const Settings* reported, const Settings& settings);
// transform_null_equals changes what `= NULL` means, which is no string.
[[nodiscard]] bool reads_null_otherwise(const Settings& settings);
[[nodiscard]] bool mentions_null(std::string_view sql);

}  // namespace pgporter
