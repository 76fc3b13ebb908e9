#include "router/sql_words.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

// Never a name.
constexpr auto reserved = std::to_array<std::string_view>({
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "both", "case", "cast", "check",
    "collate", "column", "constraint", "create", "current_catalog", "current_date", "current_role", "current_time",
    "current_timestamp", "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except",
    "false", "fetch", "for", "foreign", "from", "grant", "group", "having", "in", "initially", "intersect", "into",
    "lateral", "leading", "limit", "localtime", "localtimestamp", "not", "null", "offset", "on", "only", "or",
    "order", "placing", "primary", "references", "returning", "select", "session_user", "some", "symmetric",
    "system_user", "table", "then", "to", "trailing", "true", "union", "unique", "user", "using", "variadic", "when",
    "where", "window", "with",
});
static_assert(std::is_sorted(reserved.begin(), reserved.end()));

// Names of types and functions only.
constexpr auto of_types_and_functions = std::to_array<std::string_view>({
    "authorization", "binary", "collation", "concurrently", "cross", "current_schema", "freeze", "full", "ilike",
    "inner", "is", "isnull", "join", "left", "like", "natural", "notnull", "outer", "overlaps", "right", "similar",
    "tablesample", "verbose",
});
static_assert(std::is_sorted(of_types_and_functions.begin(), of_types_and_functions.end()));

// Labels behind AS only.
constexpr auto never_bare = std::to_array<std::string_view>({
    "array", "as", "char", "character", "create", "day", "except", "fetch", "filter", "for", "from", "grant",
    "group", "having", "hour", "intersect", "into", "isnull", "limit", "minute", "month", "notnull", "offset", "on",
    "order", "over", "overlaps", "precision", "returning", "second", "to", "union", "varying", "where", "window",
    "with", "within", "without", "year",
});
static_assert(std::is_sorted(never_bare.begin(), never_bare.end()));

bool is_one_of(const auto& words, std::string_view word) {
    return std::binary_search(words.begin(), words.end(), std::string_view(folded(word)));
}

}  // namespace

bool may_be_name(std::string_view word) {
    return !is_one_of(reserved, word) && !is_one_of(of_types_and_functions, word);
}

bool may_be_value(std::string_view word) {
    return !is_one_of(reserved, word) || equals_folded(word, "true") || equals_folded(word, "false") || equals_folded(word, "on");
}

bool may_be_label(std::string_view word) {
    return !is_one_of(never_bare, word);
}

}  // namespace pgporter
