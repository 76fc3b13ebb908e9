// SharedRows: a tenant that is rows of shared tables, as a move sees it: the column that says whose a row is, and the
// tenant's value of it. A shared table with that column is the tenant's where the column has the value; one without it
// is nobody's or everybody's: it must say `COMMENT ON TABLE t IS 'pgporter: global'`, as for the doctor, and is then
// copied whole. Values and queries; whose session it is, its thread.
#pragma once

#include <string>
#include <vector>

#include "admin/mover/schema_tables.hpp"
#include "admin/mover/server_session.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

struct SharedRows {
    std::string column;                      // the database's tenant_column; empty: the catalog doesn't say
    std::string key;                         // the tenant's
    std::string role;                        // the tenant's; may be empty
    std::vector<std::string> other_schemas;  // tenants' own, in the same database: not shared
};

// As the catalog has it now.
[[nodiscard]] SharedRows shared_rows_of(const Snapshot& snapshot, const Tenant& tenant, const Placement& place);

// All schemas that are neither the server's, nor a tenant's own, nor pgporter's.
[[nodiscard]] Result<SchemaList> read_shared_schemas(ServerSession& source, const SharedRows& rows);

// What of a shared table can't be told apart, one text a finding; empty: mark_tables() may be called.
struct SharedTableTrouble {
    std::string code;
    std::string object;
    std::string message;
    std::string remedy;
};
[[nodiscard]] Result<std::vector<SharedTableTrouble>> find_shared_table_trouble(ServerSession& source, const SharedRows& rows,
                                                                                const SchemaList& schemas);
// Fills in whose rows of each table the move is about (SourceTable::tenant_column and what follows it).
[[nodiscard]] Result<void> mark_shared_tables(ServerSession& source, const SharedRows& rows, std::vector<SourceTable>& tables);

}  // namespace pgporter
