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

// With whose eyes the pieces are read.
enum class CopySnapshots {
    one_a_piece,  // each sees what `slot_snapshot` saw; the piece journal says what more. Into tables that this move has made
    one_for_all,  // `shared_snapshot`, which another connection holds; nothing is journaled. Into tables that others have rows in
};

struct CopyPlan {
    std::vector<CopyPiece> pieces;  // that aren't on the target yet
    std::uint64_t part_pages_max = PieceSizes{}.part_pages_max;
    std::uint32_t jobs = 1;
    CopySnapshots snapshots = CopySnapshots::one_a_piece;
    std::uint32_t attempt = 0;  // of the piece journal
    std::optional<RowSnapshot> slot_snapshot;
    std::string shared_snapshot;
    [[nodiscard]] bool is_journaled() const { return snapshots == CopySnapshots::one_a_piece; }
};

// `tick` is called about every 200 ms on the calling thread.
[[nodiscard]] Result<void> copy_tables(const MoveServers& servers, const CopyPlan& plan, CopyCounters& counters, HeldSnapshots& held,
                                       const std::function<void()>& tick);

}  // namespace pgporter
