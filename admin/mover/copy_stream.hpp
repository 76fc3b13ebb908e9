// One COPY from a connection to another: nothing is kept in memory but what is on its way. Owned and used by one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "admin/mover/copy_pacer.hpp"
#include "admin/mover/copy_pieces.hpp"
#include "admin/mover/move_servers.hpp"
#include "base/metrics.hpp"

namespace pgporter {

struct CopyCounters {
    std::atomic<std::uint64_t> rows{0};
    std::atomic<std::uint64_t> bytes{0};
    CopyPacer* pacer = nullptr;  // none: at full speed
    metrics::Counter* rows_total = nullptr;
    metrics::Counter* bytes_total = nullptr;
};

struct CopiedRows {
    std::uint64_t rows = 0;
    std::uint64_t bytes = 0;
};

struct CopyPair {
    std::unique_ptr<ServerSession> source;
    std::unique_ptr<ServerSession> target;
    std::unique_ptr<CopyPacer::Worker> paced;
};

// Connected, with what a copy needs set; no transaction is open.
[[nodiscard]] Result<CopyPair> open_copy_pair(const MoveServers& servers);
// In the transactions that are open on both, or, if it isn't frozen, in ones of its own. `given_up` is asked while the source has nothing to say.
[[nodiscard]] Result<CopiedRows> copy_part(CopyPair& pair, const CopyPart& part, CopyCounters& counters, const std::function<bool()>& given_up);

}  // namespace pgporter
