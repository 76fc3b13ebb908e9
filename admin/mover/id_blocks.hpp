// IdBlocks: keeps apart the ids that a tenant's own database gives out from those of the shared tables that it may come back to.
// A unique index without the tenant column is no danger to the way back when its values can't be another tenant's: uuids,
// references to the tenant's own rows, or numbers of a sequence. Of each such sequence the shared database's is moved on by
// mover.reserved_ids, and the tenant's own draws from that block; half used, it gets another one. A row whose number is of no block
// never reaches the shared tables. Blocks are remembered in the schema of the stream's progress on the shared side.
// Owned by the move's thread.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "admin/mover/move_servers.hpp"
#include "admin/mover/pgoutput.hpp"
#include "admin/mover/schema_tables.hpp"
#include "admin/mover/sequences.hpp"

namespace pgporter {

// Unique indexes (and exclusion constraints) of shared tables in which a row of the tenant's could meet another's, by name and table.
[[nodiscard]] Result<std::vector<std::string>> find_unsafe_indexes(ServerSession& shared, const MoveServers& servers);

class IdBlocks {
  public:
    // Both in the schema that create_progress_table() made on the shared side. `servers` face the way into the shared tables.
    [[nodiscard]] static Result<void> create_table(ServerSession& shared, const MoveServers& servers);
    [[nodiscard]] Result<void> load(ServerSession& shared, ServerSession& own, const MoveServers& servers);
    // Sees that the tenant's own sequences are in a block of which at most half is used. The shared side is asked only when one must be
    // reserved; it may have to wait for those who draw ids there just now.
    [[nodiscard]] Result<void> keep_filled(ServerSession& own, const MoveServers& servers);
    // Numbers that must only differ within the tenant need no block; but the shared sequence must be beyond the tenant's own when it comes back,
    // and so beyond what that gives out meanwhile.
    [[nodiscard]] Result<void> raise_shared(ServerSession& own, const MoveServers& servers) const;
    void clear() { *this = IdBlocks(); }

    // Why a row of the tenant's own database may not go into the shared table: it has a number of no block. Empty: it may.
    [[nodiscard]] std::string objection(const SourceTable& table, const pgoutput::Tuple& row) const;
    // The same of an update; none if it leaves the numbers alone.
    [[nodiscard]] std::string objection(const SourceTable& table, const pgoutput::Update& update) const;
    // A sequence with blocks isn't to be set otherwise.
    void leave_out(std::vector<SequenceValue>& sequences) const;

  private:
    struct Block {
        std::int64_t first = 0;
        std::int64_t last = 0;
    };
    struct Sequence {
        std::string schema;
        std::string name;
        std::int64_t increment = 1;
        std::int64_t cache = 1;
        std::vector<Block> blocks;  // by age
    };
    struct Drawn {
        std::size_t sequence = 0;  // into sequences_
        std::string column;
    };
    [[nodiscard]] Result<void> reserve(ServerSession& shared, const MoveServers& servers, Sequence& sequence, std::int64_t first_min) const;
    [[nodiscard]] Result<void> read_blocks(ServerSession& shared, const MoveServers& servers);

    std::vector<Sequence> sequences_;
    std::vector<Sequence> within_;
    std::unordered_map<std::string, std::vector<Drawn>> drawn_;  // by the table's qualified name
};

}  // namespace pgporter
