// Definitions: the tenant's schema as pg_dump describes it, restored in three parts: before the data; after it keys and indexes; and when the
// stream has made the rows those of one moment, all that holds only then. The dump lives in memory. Owned by the move's thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "admin/mover/child_process.hpp"
#include "admin/mover/move_servers.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

struct TableIndex {
    std::string schema;
    std::string table;
    std::string name;
    bool identity = false;   // by which the stream finds rows
    bool exclusive = false;  // unique, or an exclusion constraint: not every two rows may be there together
};

class Definitions {
  public:
    [[nodiscard]] static Result<Definitions> dump(const MoveServers& servers);

    [[nodiscard]] Result<void> restore_before_data(const MoveServers& servers);
    // Both by several connections at once; not in one transaction. Indexes that are there already are left as they are.
    [[nodiscard]] Result<void> restore_indexes(const MoveServers& servers, const std::vector<TableIndex>& indexes, std::uint32_t jobs);
    [[nodiscard]] Result<void> restore_rest(const MoveServers& servers, std::uint32_t jobs) const;

  private:
    [[nodiscard]] Result<std::vector<std::string>> list(const MoveServers& servers, const char* section) const;
    std::vector<std::string> target_schemas_;  // there before the definitions
    explicit Definitions(MemoryFile archive) : archive_(std::move(archive)) {}
    MemoryFile archive_;
    std::vector<std::string> rest_;  // entries of the archive's list that restore_indexes left
};

// Which lines of `pg_restore --list` make one of these indexes, alone or as a constraint. Comments, ACLs and attachments that belong to an entry
// stay with the rest: they are restored when everything is there.
class IndexEntries {
  public:
    explicit IndexEntries(const std::vector<TableIndex>& indexes);
    [[nodiscard]] bool makes_one(std::string_view line) const;

  private:
    std::unordered_set<std::string> texts_;
};
// What is not to be restored: schemas that the target has already (public, those of extensions), and the fences of moves.
[[nodiscard]] bool is_left_out(std::string_view line, const std::vector<std::string>& target_schemas);

[[nodiscard]] Result<std::vector<TableIndex>> read_indexes(ServerSession& session, const SchemaList& schemas);

// The major version of pg_dump or pg_restore, as the program itself says.
[[nodiscard]] Result<int> tool_major_version(const std::string& program, const Interrupt& interrupt);

// PGHOST and so on: the connection of a PostgreSQL client program, with nothing on its command line.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> client_environment(const LibpqParams& params);

}  // namespace pgporter
