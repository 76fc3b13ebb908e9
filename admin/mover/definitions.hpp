// Definitions: the tenant's schema as pg_dump describes it, restored in three parts: before the data, the keys (before
// the data too, so that the stream finds its rows), and the rest after the data. The dump lives in memory. Owned by the
// move's thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "admin/mover/child_process.hpp"
#include "admin/mover/move_servers.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

class Definitions {
  public:
    [[nodiscard]] static Result<Definitions> dump(const MoveServers& servers);

    [[nodiscard]] Result<void> restore_before_data(const MoveServers& servers);
    [[nodiscard]] Result<void> restore_keys(const MoveServers& servers, const std::vector<SourceTable>& tables,
                                            const std::vector<std::string>& identity_indexes);
    // By several connections at once; not in one transaction.
    [[nodiscard]] Result<void> restore_after_data(const MoveServers& servers, std::uint32_t jobs) const;

  private:
    [[nodiscard]] Result<std::vector<std::string>> list(const MoveServers& servers, const char* section) const;
    std::vector<std::string> target_schemas_;  // there before the definitions
    explicit Definitions(MemoryFile archive) : archive_(std::move(archive)) {}
    MemoryFile archive_;
    std::vector<std::string> keys_;  // entries of the archive's list that restore_keys took
    std::vector<std::string> rest_;  // those it left
};

// One line of `pg_restore --list`: is it a key (a primary key or unique constraint, or one of the named indexes of this
// schema)? Comments, ACLs and attachments that belong to an entry stay with the rest: they are restored when everything
// is there.
[[nodiscard]] bool is_key_entry(std::string_view line, const SchemaList& schemas,
                                const std::vector<std::string>& identity_indexes);
// What is not to be restored: schemas that the target has already (public, those of extensions), and the fences of moves.
[[nodiscard]] bool is_left_out(std::string_view line, const std::vector<std::string>& target_schemas);

// Names of the indexes that tables of this schema have as REPLICA IDENTITY USING INDEX.
[[nodiscard]] Result<std::vector<std::string>> read_identity_indexes(ServerSession& session,
                                                                              const SchemaList& schemas);

// The major version of pg_dump or pg_restore, as the program itself says.
[[nodiscard]] Result<int> tool_major_version(const std::string& program, const Interrupt& interrupt);

// PGHOST and so on: the connection of a PostgreSQL client program, with nothing on its command line.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> client_environment(const LibpqParams& params);

}  // namespace pgporter
