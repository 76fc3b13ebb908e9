// copy_tables: a tenant's rows, source to target, piece by piece (copy_pieces.hpp), through several pairs of connections at once. Called on the
// move's thread, which reports the progress while the copying threads work.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "admin/mover/copy_pieces.hpp"
#include "admin/mover/copy_stream.hpp"
#include "admin/mover/move_servers.hpp"
#include "admin/mover/row_snapshot.hpp"

namespace pgporter {

// Since when the oldest snapshot of a copy is held: as long as it is, the source can't clean up. Any thread.
class HeldSnapshots {
  public:
    using Time = std::chrono::steady_clock::time_point;
    class Hold {
      public:
        explicit Hold(HeldSnapshots& all);
        ~Hold();
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;

      private:
        HeldSnapshots& all_;
        std::multiset<Time>::iterator since_;
    };
    [[nodiscard]] std::optional<Time> oldest() const;

  private:
    mutable std::mutex mutex_;
    std::multiset<Time> since_;
};

struct CopyPlan {
    std::vector<CopyPiece> pieces;  // that aren't on the target yet
    std::uint64_t part_pages_max = PieceSizes{}.part_pages_max;
    std::uint32_t jobs = 1;
    // Either every piece has a snapshot of its own, and the piece journal of this attempt says which: each sees what `slot_snapshot` saw.
    std::uint32_t attempt = 0;
    std::optional<RowSnapshot> slot_snapshot;
    // Or all have this one, which another connection holds, and nothing is journaled.
    std::string snapshot;
};

// `tick` is called about every 200 ms on the calling thread.
[[nodiscard]] Result<void> copy_tables(const MoveServers& servers, const CopyPlan& plan, CopyCounters& counters, HeldSnapshots& held,
                                       const std::function<void()>& tick);

}  // namespace pgporter
