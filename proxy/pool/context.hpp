// Context: what the session state of a server connection must be before a client's bytes may reach it: role, search_path and
// run-time parameters. Pure values; the prologue's SQL is made here and its proof is checked here. No I/O.
//
// Two batches, each one simple Query (one implicit transaction: all or nothing):
//   reset  wipes what the last session may have left, also by ways that no parser sees (functions, DO blocks);
//   set    makes the wanted state and returns what is true then, which must equal what was wanted.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgporter {

using Settings = std::vector<std::pair<std::string, std::string>>;  // name, value; later entries win

struct Context {
    std::string role;         // empty: the login's own
    std::string search_path;  // empty: the server's default, unless has_empty_path
    Settings settings;        // without role and search_path
    bool has_empty_path = false;  // set_config('search_path', '', ..), which is another thing than '""'
    friend bool operator==(const Context&, const Context&) = default;
};
using ContextPtr = std::shared_ptr<const Context>;

[[nodiscard]] std::string reset_sql();
[[nodiscard]] std::string set_sql(const Context& context);
// `row` is the last row of set_sql's answer. True when it proves the context.
[[nodiscard]] bool is_proof(const Context& context, const std::vector<std::optional<std::string>>& row);

// A literal that means the same under any standard_conforming_strings.
[[nodiscard]] std::string sql_literal(std::string_view text);
[[nodiscard]] std::string sql_identifier(std::string_view text);
// The same for text in UTF-8 that is sent under whatever client_encoding.
[[nodiscard]] std::string ascii_sql_literal(std::string_view utf8);

// Run-time parameter names compare without case. Replaces or appends.
void put_setting(Settings& settings, std::string_view name, std::string_view value);
[[nodiscard]] const std::string* find_setting(const Settings& settings, std::string_view name);
[[nodiscard]] bool same_name(std::string_view a, std::string_view b);
// A client_encoding that means UTF-8, as PostgreSQL spells it.
[[nodiscard]] bool is_utf8_name(std::string_view value);

}  // namespace pgporter
