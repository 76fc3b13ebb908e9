#include "catalog/sql_identifier.hpp"

#include <algorithm>
#include <array>

namespace pgporter {
namespace {

// Every keyword that isn't unreserved, of all supported versions: quoting one that a version doesn't know harms nothing.
constexpr auto keywords = std::to_array<std::string_view>({
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between", "bigint",
    "binary", "bit", "boolean", "both", "case", "cast", "char", "character", "check", "coalesce", "collate", "collation",
    "column", "concurrently", "constraint", "create", "cross", "current_catalog", "current_date", "current_role",
    "current_schema", "current_time", "current_timestamp", "current_user", "dec", "decimal", "default", "deferrable",
    "desc", "distinct", "do", "else", "end", "except", "exists", "extract", "false", "fetch", "float", "for", "foreign",
    "freeze", "from", "full", "grant", "greatest", "group", "grouping", "having", "ilike", "in", "initially", "inner",
    "inout", "int", "integer", "intersect", "interval", "into", "is", "isnull", "join", "json", "json_array",
    "json_arrayagg", "json_exists", "json_object", "json_objectagg", "json_query", "json_scalar", "json_serialize",
    "json_table", "json_value", "lateral", "leading", "least", "left", "like", "limit", "localtime", "localtimestamp",
    "merge_action", "national", "natural", "nchar", "none", "normalize", "not", "notnull", "null", "nullif", "numeric",
    "offset", "on", "only", "or", "order", "out", "outer", "overlaps", "overlay", "placing", "position", "precision",
    "primary", "real", "references", "returning", "right", "row", "select", "session_user", "setof", "similar",
    "smallint", "some", "substring", "symmetric", "system_user", "table", "tablesample", "then", "time", "timestamp",
    "to", "trailing", "treat", "trim", "true", "union", "unique", "user", "using", "values", "varchar", "variadic",
    "verbose", "when", "where", "window", "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest",
    "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable",
});
static_assert(std::is_sorted(keywords.begin(), keywords.end()));

bool is_plain(std::string_view identifier) {
    if (identifier.empty()) return false;
    const auto is_start = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
    return is_start(identifier.front()) && std::all_of(identifier.begin(), identifier.end(), [&](char c) {
               return is_start(c) || (c >= '0' && c <= '9');
           });
}

}  // namespace

bool is_sql_keyword(std::string_view lower_case_word) {
    return std::binary_search(keywords.begin(), keywords.end(), lower_case_word);
}

std::string quote_ident_where_needed(std::string_view identifier) {
    if (is_plain(identifier) && !is_sql_keyword(identifier)) return std::string(identifier);
    std::string quoted = "\"";
    for (const char c : identifier) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    quoted += '"';
    return quoted;
}

}  // namespace pgporter
