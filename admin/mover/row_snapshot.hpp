// RowSnapshot: which transactions a reader of the source saw, as PostgreSQL writes it (type pg_snapshot: "xmin:xmax:xip,..."). With it a change
// of the stream is known to be in what was copied, or not: exactly, whatever the order in which commits were logged and became visible.
// Immutable; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pgporter {

class RowSnapshot {
  public:
    [[nodiscard]] static std::optional<RowSnapshot> parse(std::string_view text);

    // Of a transaction that has committed by now. `transaction` is a top-level one: subtransactions aren't listed.
    [[nodiscard]] bool sees(std::uint64_t transaction) const;
    // The stream tells the lower half of the number; the rest follows from our own, as no two that live are half the range apart.
    [[nodiscard]] bool sees_wire(std::uint32_t transaction) const;
    // The first transaction that `earlier` saw and this one doesn't; none: this one sees all that `earlier` did. In the moment between a
    // commit's record in the log and its being visible (long with a synchronous standby) a slot can be ahead of a snapshot taken after it.
    [[nodiscard]] std::optional<std::uint64_t> lacks_of(const RowSnapshot& earlier) const;

  private:
    RowSnapshot() = default;

    std::uint64_t first_running_ = 0;    // before it none was running
    std::uint64_t next_ = 0;             // from it on none had begun
    std::vector<std::uint64_t> running_;  // in between, ascending
};

}  // namespace pgporter
