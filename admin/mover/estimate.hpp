// Estimate: how fast a move is and how long it will take until it can cut over, through all of its phases. What hasn't begun yet is guessed
// from the sizes, what has from what was seen of the last seconds. Pure; one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

#include "catalog/move.hpp"

namespace pgporter {

class Estimate {
  public:
    using Time = std::chrono::steady_clock::time_point;

    void set_size(std::uint64_t bytes_with_indexes) { bytes_with_indexes_ = bytes_with_indexes; }
    void see(Time now, MoveState state, const MoveProgress& progress);

    [[nodiscard]] std::optional<double> seconds_left() const { return seconds_left_; }  // none: nobody can tell, or it has no end by itself
    [[nodiscard]] double bytes_per_second() const { return bytes_per_second_; }         // of the copy
    [[nodiscard]] std::uint64_t bytes_total() const { return bytes_total_; }            // that the copy will have moved

  private:
    struct Sample {
        Time at;
        std::uint64_t rows;
        std::uint64_t bytes;
        std::uint64_t lag;
    };
    [[nodiscard]] double seconds_of_window() const;
    void measure(const MoveProgress& progress);
    [[nodiscard]] double index_seconds() const;
    [[nodiscard]] double catchup_seconds(double lag_bytes) const;
    [[nodiscard]] double verify_seconds() const;
    [[nodiscard]] std::optional<double> left(MoveState state, const MoveProgress& progress, double in_state) const;

    std::uint64_t bytes_with_indexes_ = 0;
    MoveState state_ = MoveState::planned;
    Time state_since_{};
    std::deque<Sample> window_;
    double rows_per_second_ = 0;
    double bytes_per_second_ = 0;
    double lag_per_second_ = 0;  // that it shrinks
    std::uint64_t bytes_total_ = 0;
    std::optional<double> seconds_left_;
};

}  // namespace pgporter
