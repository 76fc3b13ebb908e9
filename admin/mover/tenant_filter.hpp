// Tenant filter: what a change of a shared table means for one tenant's copy of it. The publication has no row filter (one
// that names a column outside the replica identity would make every tenant's updates fail), so all tenants' changes come by.
// Pure; any thread.
//
// Whose a row is now is always in the change. Whose it was isn't, unless the replica identity contains the tenant column:
// such changes are applied in a form that is right either way, and the target's answer tells which it was.
#pragma once

#include <optional>

#include "admin/mover/pgoutput.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

enum class Fate {
    skip,              // another tenant's
    insert,            // a row of the tenant, new or come in from another tenant: `insert`
    update,            // it was the tenant's and still is: the change as it is
    update_or_missing, // it is the tenant's; no such row on the target: it has come in, and must be fetched whole
    fetch,             // it has come in, and the change doesn't hold all of it
    remove,            // it was the tenant's: `removal`
    remove_if_there,   // it isn't the tenant's (any more): `removal` hits one row or none
};

struct FilteredChange {
    Fate fate = Fate::skip;
    pgoutput::Insert insert;
    pgoutput::Delete removal;
};

// None: the change doesn't fit the table's definition.
[[nodiscard]] std::optional<FilteredChange> filter_change(const SourceTable& table, const pgoutput::Message& change);

}  // namespace pgporter
