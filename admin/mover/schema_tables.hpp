// SourceTable: what a move must know of each table of the tenant's schema; and the signature of the whole schema's
// definition, by which a change that the application makes during the move is noticed. Read once at the start, then
// immutable; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "admin/mover/server_session.hpp"
#include "base/ids.hpp"

namespace pgporter {

struct TableColumn {
    std::string name;
    std::string type;  // as SQL names it, qualified, without modifier
    std::uint32_t type_oid = 0;
    std::int32_t type_modifier = -1;
    bool key = false;              // part of the replica identity
    bool identity_always = false;  // GENERATED ALWAYS AS IDENTITY
    bool comparable = true;        // its type has an equality that means equality
    bool text_only = false;  // its binary form means something else in another database (regclass), or it has none
};

struct SourceTable {
    std::uint32_t oid = 0;
    std::string schema;
    std::string name;
    bool partitioned = false;          // holds no rows itself; its partitions are tables of their own here
    bool partition = false;            // of another table
    char replica_identity = 'd';       // as in pg_class.relreplident
    std::vector<TableColumn> columns;  // those that hold data, in order: what the stream sends, without generated ones
    std::vector<std::string> generated;  // names of generated columns
    std::vector<std::size_t> key;        // into columns; empty with REPLICA IDENTITY FULL
    std::optional<std::size_t> key_leader;  // of these the one that the key's index leads with
    bool other_unique = false;           // a unique index or exclusion constraint besides the replica identity
    std::uint64_t pages = 0;         // of its own: where its rows begin
    std::uint64_t toast_pages = 0;   // where large values of them are
    std::uint64_t bytes = 0;         // with indexes and TOAST
    std::uint64_t stored_bytes = 0;  // with TOAST, without indexes
    std::uint64_t rows_estimate = 0;

    // Shared tables (shared_rows.hpp). Else no column and no filter: every row is the tenant's.
    std::optional<std::size_t> tenant_column;  // into columns
    std::string tenant_value;                  // what the stream sends in it for this tenant
    std::string tenant_literal;                // the same as SQL, of the column's type
    std::string row_filter;                    // the condition that is true of the tenant's rows; the table's alias is t
    bool tenant_index = false;                 // an index leads with that column
    bool unfenced = false;                     // global: everybody goes on writing to it while the tenant is fenced
    // The way into the shared tables: the stream comes from a database of the tenant's own, and it is the target's table that
    // others have rows in.
    bool into_shared = false;

    // Of the source's rows those that the move is about; of the target's those that belong to it.
    [[nodiscard]] std::string where() const { return row_filter.empty() || into_shared ? std::string() : " WHERE " + row_filter; }
    [[nodiscard]] std::string target_where() const { return row_filter.empty() || !into_shared ? std::string() : " WHERE " + row_filter; }
    // What reading it takes.
    [[nodiscard]] std::uint64_t pages_to_copy() const { return pages + toast_pages; }
    [[nodiscard]] std::string qualified_name() const { return qualified(schema, name); }
    [[nodiscard]] std::string plain_name() const { return schema + "." + name; }  // for people
    [[nodiscard]] bool binary_copy() const;
};

// The schemas that a move is about: the tenant's own, or the shared ones of a tenant that is rows.
class SchemaList {
  public:
    SchemaList() = default;
    SchemaList(std::string one) : names_{std::move(one)} {}  // NOLINT(google-explicit-constructor): most moves have one
    SchemaList(std::vector<std::string> names) : names_(std::move(names)) {}  // NOLINT(google-explicit-constructor)
    [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
    [[nodiscard]] std::string as_array() const { return to_array_literal(names_); }  // a value for $n::text[]

  private:
    std::vector<std::string> names_;
};

// Without those of extensions, which CREATE EXTENSION makes.
[[nodiscard]] Result<std::vector<SourceTable>> read_tables(ServerSession& session, const SchemaList& schemas);

// Where each table's rows are stored now: TRUNCATE and whatever else rewrites a table changes it, at once and for every
// snapshot.
[[nodiscard]] Result<std::map<std::uint32_t, std::uint32_t>> read_file_nodes(ServerSession& session,
                                                                             const SchemaList& schemas);

// A query of one text: the same as long as nobody changes the definition of anything in the schemas. Touches catalogs by
// index only (a shared database has very many tables), since it runs inside the pause. Ignores the fences of moves.
// VACUUM, REINDEX and TRUNCATE don't change it.
[[nodiscard]] Result<std::string> signature_query(ServerSession& session, const SchemaList& schemas);

// search_path under which comparisons of the schema's key columns find their operators (those of extensions are outside
// pg_catalog).
[[nodiscard]] Result<std::string> operator_search_path(ServerSession& session);

}  // namespace pgporter
