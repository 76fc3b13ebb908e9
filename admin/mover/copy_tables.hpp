// copy_tables: the snapshot's rows, source to target, through several pairs of connections at once. Nothing is kept in
// memory but what is on its way. Called on the move's thread, which reports the progress while the copying threads
// work.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "admin/mover/move_servers.hpp"
#include "admin/mover/schema_tables.hpp"
#include "base/metrics.hpp"

namespace pgporter {

struct CopyCounters {
    std::atomic<std::uint64_t> rows{0};
    std::atomic<std::uint64_t> bytes{0};
    metrics::Counter* rows_total = nullptr;
    metrics::Counter* bytes_total = nullptr;
};

// A piece of a table: pages [first_page, end_page); end_page 0 means to the end, however far that is by now.
struct CopyChunk {
    const SourceTable* table = nullptr;
    std::uint64_t first_page = 0;
    std::uint64_t end_page = 0;
    // All of a table that is the move's own: its rows are stored as everybody's, and nobody who reads them has to find out, and to
    // write down, that they are committed.
    bool frozen = false;
};

enum class TargetTables { own, shared };  // made by this move, empty; or others have rows there

// Largest first. Tables that would keep one thread busy long after the others have ended are copied in pieces; not more, because
// threads that fill one table wait for each other whenever it grows. Pure.
[[nodiscard]] std::vector<CopyChunk> plan_copy(const std::vector<SourceTable>& tables, TargetTables target,
                                               std::uint64_t chunk_pages_max, std::size_t jobs);
[[nodiscard]] std::string copy_out_statement(const CopyChunk& chunk);
[[nodiscard]] std::string copy_in_statement(const CopyChunk& chunk);

// `tick` is called about every 200 ms on the calling thread.
[[nodiscard]] Result<void> copy_tables(const MoveServers& servers, const std::vector<SourceTable>& tables,
                                       TargetTables target, const std::string& snapshot, std::uint32_t jobs, CopyCounters& counters,
                                       const std::function<void()>& tick);

}  // namespace pgporter
