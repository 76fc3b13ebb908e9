// Identifiers as PostgreSQL writes them. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace pgporter {

// True for a word that PostgreSQL (14 to 18) doesn't take as a plain identifier everywhere.
[[nodiscard]] bool is_sql_keyword(std::string_view lower_case_word);
// The identifier as it must stand in SQL and in search_path: quoted only where needed, like PostgreSQL's quote_ident().
[[nodiscard]] std::string quote_ident_where_needed(std::string_view identifier);

}  // namespace pgporter
