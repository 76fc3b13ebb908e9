// copy_tables: the snapshot's rows, source to target, through several pairs of connections at once. Nothing is kept in
// memory but what is on its way. Called on the move's thread, which reports the progress while the copying threads
// work.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "admin/mover/copy_pacer.hpp"
#include "admin/mover/move_servers.hpp"
#include "admin/mover/schema_tables.hpp"
#include "base/metrics.hpp"

namespace pgporter {

struct CopyCounters {
    std::atomic<std::uint64_t> rows{0};
    std::atomic<std::uint64_t> bytes{0};
    CopyPacer* pacer = nullptr;  // none: at full speed
    metrics::Counter* rows_total = nullptr;
    metrics::Counter* bytes_total = nullptr;
};

// A piece of a table: pages [first_page, end_page); end_page 0 means to the end, however far that is by now.
struct CopyChunk {
    const SourceTable* table = nullptr;
    std::uint64_t first_page = 0;
    std::uint64_t end_page = 0;
};

// Largest first, large tables in several pieces, so that the threads end at about the same time. Pure.
[[nodiscard]] std::vector<CopyChunk> plan_copy(const std::vector<SourceTable>& tables, std::uint64_t chunk_pages_max);
[[nodiscard]] std::string copy_out_statement(const CopyChunk& chunk);
[[nodiscard]] std::string copy_in_statement(const CopyChunk& chunk);

// `tick` is called about every 200 ms on the calling thread.
[[nodiscard]] Result<void> copy_tables(const MoveServers& servers, const std::vector<SourceTable>& tables,
                                       const std::string& snapshot, std::uint32_t jobs, CopyCounters& counters,
                                       const std::function<void()>& tick);

}  // namespace pgporter
