// Definitions: the tenant's schema as pg_dump describes it, restored in three parts: before the data; after it the keys, by which the stream
// finds its rows; and when the stream has made the rows those of one moment, all that holds only then. The dump lives in memory. Owned by the
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

// An index by which the stream identifies rows.
struct IdentityIndex {
    std::string schema;
    std::string table;
    std::string name;
};

class Definitions {
  public:
    [[nodiscard]] static Result<Definitions> dump(const MoveServers& servers);

    [[nodiscard]] Result<void> restore_before_data(const MoveServers& servers);
    // Both by several connections at once; not in one transaction. Keys that are there already are left as they are.
    [[nodiscard]] Result<void> restore_keys(const MoveServers& servers, const std::vector<IdentityIndex>& keys, std::uint32_t jobs);
    [[nodiscard]] Result<void> restore_rest(const MoveServers& servers, std::uint32_t jobs) const;

  private:
    [[nodiscard]] Result<std::vector<std::string>> list(const MoveServers& servers, const char* section) const;
    std::vector<std::string> target_schemas_;  // there before the definitions
    explicit Definitions(MemoryFile archive) : archive_(std::move(archive)) {}
    MemoryFile archive_;
    std::vector<std::string> rest_;  // entries of the archive's list that restore_keys left
};

// One line of `pg_restore --list`: which of these indexes does it make, alone or as a constraint? Null: none. Comments, ACLs and attachments
// that belong to an entry stay with the rest: they are restored when everything is there.
[[nodiscard]] const IdentityIndex* key_of_entry(std::string_view line, const std::vector<IdentityIndex>& keys);
// What is not to be restored: schemas that the target has already (public, those of extensions), and the fences of moves.
[[nodiscard]] bool is_left_out(std::string_view line, const std::vector<std::string>& target_schemas);

[[nodiscard]] Result<std::vector<IdentityIndex>> read_identity_indexes(ServerSession& session, const SchemaList& schemas);

// The major version of pg_dump or pg_restore, as the program itself says.
[[nodiscard]] Result<int> tool_major_version(const std::string& program, const Interrupt& interrupt);

// PGHOST and so on: the connection of a PostgreSQL client program, with nothing on its command line.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> client_environment(const LibpqParams& params);

}  // namespace pgporter
