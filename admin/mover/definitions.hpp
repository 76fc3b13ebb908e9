// Definitions: the tenant's schema as pg_dump describes it, restored in two parts: before the data, and after it keys,
// indexes and constraints (the stream, which finds its rows by the keys, comes later still). The dump lives in memory.
// Owned by the move's thread.
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
    // By several connections at once; not in one transaction.
    [[nodiscard]] Result<void> restore_after_data(const MoveServers& servers, std::uint32_t jobs) const;

  private:
    [[nodiscard]] Result<std::vector<std::string>> list(const MoveServers& servers, const char* section) const;
    std::vector<std::string> target_schemas_;  // there before the definitions
    explicit Definitions(MemoryFile archive) : archive_(std::move(archive)) {}
    MemoryFile archive_;
};

// One line of `pg_restore --list`: is it what isn't to be restored, a schema that the target has already (public, those of
// extensions), or a move's fence?
[[nodiscard]] bool is_left_out(std::string_view line, const std::vector<std::string>& target_schemas);

// The major version of pg_dump or pg_restore, as the program itself says.
[[nodiscard]] Result<int> tool_major_version(const std::string& program, const Interrupt& interrupt);

// PGHOST and so on: the connection of a PostgreSQL client program, with nothing on its command line.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> client_environment(const LibpqParams& params);

}  // namespace pgporter
