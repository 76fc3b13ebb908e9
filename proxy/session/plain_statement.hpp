// is_plain_statement: the short way of statement_scan for what most texts are: one SELECT, INSERT, UPDATE, DELETE or WITH in which nothing
// stands that a scan would note. Pure; any thread; one pass over the bytes, no tokens, no allocation. It must not say true of a text
// of which scan_statement knows more than `plain`; false says nothing.
#pragma once

#include <string_view>

#include "router/sql_dialect.hpp"

namespace pgporter {

[[nodiscard]] bool is_plain_statement(std::string_view sql, SqlDialect dialect = {});

}  // namespace pgporter
