// Sequences of the tenant's schema: read on the source, set on the target. nextval isn't transactional and isn't in the
// stream, so the exact values are those read in the fence's transaction. Pure but for what the sessions do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "admin/mover/schema_tables.hpp"
#include "admin/mover/server_session.hpp"

namespace pgporter {

struct SequenceValue {
    std::string schema;
    std::string name;
    std::int64_t last_value = 0;
    bool is_called = false;
    friend bool operator==(const SequenceValue&, const SequenceValue&) = default;
};

[[nodiscard]] Result<std::vector<SequenceValue>> read_sequences(ServerSession& source, const SchemaList& schemas);
// One query for the values of exactly these; rows as sequence_values() reads them.
[[nodiscard]] std::string sequence_values_query(const std::vector<SequenceValue>& sequences);
[[nodiscard]] std::vector<SequenceValue> sequence_values(const QueryRows& rows);
// Sets those that differ from `known`; empty when none does.
[[nodiscard]] std::string set_sequences_statement(const std::vector<SequenceValue>& values,
                                                  const std::vector<SequenceValue>& known);

}  // namespace pgporter
