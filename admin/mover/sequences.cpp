#include "admin/mover/sequences.hpp"

#include <algorithm>

namespace pgporter {

Result<std::vector<SequenceValue>> read_sequences(ServerSession& source, const SchemaList& schemas) {
    auto names = source.exec(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = "
        "'S' AND n.nspname = ANY ($1::text[]) AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = "
        "'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') ORDER BY c.oid",
        {schemas.as_array()});
    if (!names) return names.error();
    std::vector<SequenceValue> sequences;
    for (int row = 0; row < names->count(); ++row) sequences.push_back({names->string(row, 0), names->string(row, 1), 0, false});
    auto rows = source.exec(sequence_values_query(sequences));
    if (!rows) return rows.error();
    return sequence_values(*rows);
}

std::string sequence_values_query(const std::vector<SequenceValue>& sequences) {
    std::string query = "SELECT ''::text, ''::text, 0::bigint, false WHERE false";
    for (const auto& sequence : sequences) {
        query += " UNION ALL SELECT " + quote_literal(sequence.schema) + "::text, " + quote_literal(sequence.name) +
                 "::text, last_value, is_called FROM " + qualified(sequence.schema, sequence.name);
    }
    return query;
}

std::vector<SequenceValue> sequence_values(const QueryRows& rows) {
    std::vector<SequenceValue> sequences;
    for (int row = 0; row < rows.count(); ++row) {
        sequences.push_back({rows.string(row, 0), rows.string(row, 1), rows.number(row, 2), rows.flag(row, 3)});
    }
    return sequences;
}

std::string set_sequences_statement(const std::vector<SequenceValue>& values, const std::vector<SequenceValue>& known) {
    std::string list;
    for (const auto& value : values) {
        if (std::find(known.begin(), known.end(), value) != known.end()) continue;
        list += (list.empty() ? "(" : ", (") + quote_literal(qualified(value.schema, value.name)) + "::regclass, " +
                std::to_string(value.last_value) + "::bigint, " + (value.is_called ? "true)" : "false)");
    }
    if (list.empty()) return {};
    return "SELECT pg_catalog.setval(sequence, last_value, is_called) FROM (VALUES " + list +
           ") AS v (sequence, last_value, is_called)";
}

}  // namespace pgporter
