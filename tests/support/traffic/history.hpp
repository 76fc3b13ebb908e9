// History: what clients did and what they were told, one record a transaction; the truth that a database is compared with.
// Each client thread fills its own vector; files are written and read when the clients have ended. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace pgporter::traffic {

enum class Outcome {
    acknowledged,  // the client was told that it is committed (for a read: it got its rows)
    failed,        // refused before it could commit: none of it may be there
    unknown,       // the connection was lost while it committed: all of it or none may be there
    rolled_back    // the client's own ROLLBACK: none of it may be there
};

enum class Kind {
    read_simple,    // one SELECT, simple protocol
    read_extended,  // a join, unnamed statement with parameters
    read_prepared,  // named statement, kept on the connection
    read_view,      // many rows through a view
    read_own,       // the client's own last write
    write_single,   // one statement, named
    write_order,    // BEGIN, several statements with parameters, COMMIT
    write_batch,    // the same in one Query message
    write_lead,     // BEGIN, UPDATE of a wide row, COMMIT
    write_delete,   // a DELETE and the note of it
    roll_back       // BEGIN, writes, ROLLBACK
};
inline constexpr int kKinds = 11;

[[nodiscard]] const char* to_text(Outcome outcome);
[[nodiscard]] const char* to_text(Kind kind);

struct Record {
    std::uint32_t tenant = 0;  // index into the list of tenants
    std::uint32_t phase = 0;   // the phase it began in
    Kind kind = Kind::read_simple;
    Outcome outcome = Outcome::acknowledged;
    std::int64_t client = 0;
    std::int64_t seq = 0;       // of a write: its number in the ledger; 0 for reads
    std::int64_t start_us = 0;  // since the Unix epoch
    std::int64_t latency_us = 0;
};

struct History {
    std::vector<std::string> tenants;
    std::vector<Record> records;
};

// A line a record, tab separated: tenant, client, seq, kind, start_us, latency_us, outcome.
[[nodiscard]] Result<void> write_history(const std::string& path, const History& history);
[[nodiscard]] Result<History> read_history(const std::string& path);

}  // namespace pgporter::traffic
