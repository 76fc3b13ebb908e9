// The statements that repeat one change of the stream on the target: text and values. Pure; any thread.
// The text depends only on the table, the kind of change and which columns are present or null, so that it can be
// prepared once for each.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/mover/pgoutput.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

struct ApplyStatement {
    std::string sql;
    std::vector<std::optional<std::string_view>> values;  // borrowed from the change; none: NULL
};

// None: the change doesn't fit the table as we know it (a column too many, a value in a form we didn't ask for).
[[nodiscard]] std::optional<ApplyStatement> insert_statement(const SourceTable& table, const pgoutput::Insert& insert);
// An update whose columns are all unchanged has nothing to set and still must find its row: its sql is a SELECT of that
// row.
[[nodiscard]] std::optional<ApplyStatement> update_statement(const SourceTable& table, const pgoutput::Update& update);
[[nodiscard]] std::optional<ApplyStatement> delete_statement(const SourceTable& table,
                                                             const pgoutput::Delete& deletion);
// What truncating the tenant's table means for a table that others have rows in too.
[[nodiscard]] std::string empty_statement(const SourceTable& table);
[[nodiscard]] std::string truncate_statement(const std::vector<const SourceTable*>& tables,
                                             const pgoutput::Truncate& truncate);

// What a statement needs of a change: every value in the form we asked for, and a key that can be looked up.
[[nodiscard]] bool is_whole_row(const SourceTable& table, const pgoutput::Tuple& row);
[[nodiscard]] bool key_is_whole(const SourceTable& table, const pgoutput::Tuple& row);
[[nodiscard]] bool is_applicable(const SourceTable& table, const pgoutput::Update& update);
// An identity column that is GENERATED ALWAYS can't be assigned by UPDATE; when its value may have changed, the row is
// replaced instead.
[[nodiscard]] bool must_replace(const SourceTable& table, const pgoutput::Update& update);

// True when the stream describes the table as it was at the start of the move.
[[nodiscard]] bool same_definition(const SourceTable& table, const pgoutput::Relation& relation);

}  // namespace pgporter
