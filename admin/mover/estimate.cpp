#include "admin/mover/estimate.hpp"

#include <algorithm>

namespace pgporter {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr std::chrono::seconds window{15};
constexpr double window_seconds_min = 0.9;
// What a server of modest size does in a second, of tables and indexes: before anything was seen.
constexpr double copied_bytes = 60e6;
constexpr double indexed_bytes = 120e6;
constexpr double verified_bytes = 200e6;
constexpr double applied_wal_bytes = 30e6;
constexpr double others_seconds = 1;  // definitions, triggers, slots

}  // namespace

double Estimate::seconds_of_window() const {
    return window_.empty() ? 0 : Seconds(window_.back().at - window_.front().at).count();
}

double Estimate::index_seconds() const {
    return static_cast<double>(bytes_with_indexes_) / indexed_bytes;
}

double Estimate::catchup_seconds(double lag_bytes) const {
    return lag_bytes / applied_wal_bytes;
}

double Estimate::verify_seconds() const {
    return static_cast<double>(bytes_with_indexes_) / verified_bytes;
}

void Estimate::measure(const MoveProgress& progress) {
    const auto seconds = seconds_of_window();
    if (seconds < window_seconds_min) return;
    const auto& first = window_.front();
    const auto& last = window_.back();
    if (state_ == MoveState::copy) {
        rows_per_second_ = static_cast<double>(last.rows - first.rows) / seconds;
        bytes_per_second_ = static_cast<double>(last.bytes - first.bytes) / seconds;
        if (progress.rows_copied > 0) {
            const auto total = std::max(progress.rows_total_estimate, progress.rows_copied);
            bytes_total_ = static_cast<std::uint64_t>(static_cast<double>(progress.bytes_copied) * static_cast<double>(total) /
                                                      static_cast<double>(progress.rows_copied));
        }
    }
    lag_per_second_ = (static_cast<double>(first.lag) - static_cast<double>(last.lag)) / seconds;
}

std::optional<double> Estimate::left(MoveState state, const MoveProgress& progress, double in_state) const {
    const double after_copy = index_seconds() + catchup_seconds(static_cast<double>(progress.source_wal_bytes)) + verify_seconds();
    switch (state) {
        case MoveState::preflight:
        case MoveState::schema:
        case MoveState::gate:
        case MoveState::slot:
            return others_seconds + static_cast<double>(bytes_with_indexes_) / copied_bytes + after_copy;
        case MoveState::copy: {
            if (progress.rows_total_estimate <= progress.rows_copied) return after_copy;
            if (rows_per_second_ <= 0) {
                if (in_state > static_cast<double>(window.count())) return std::nullopt;  // it stands still
                return static_cast<double>(bytes_with_indexes_) / copied_bytes + after_copy;
            }
            return static_cast<double>(progress.rows_total_estimate - progress.rows_copied) / rows_per_second_ + after_copy;
        }
        case MoveState::index:
            // Longer than was thought: a tenth more of what it took.
            return std::max(index_seconds() - in_state, in_state / 10) + catchup_seconds(static_cast<double>(progress.source_wal_bytes)) +
                   verify_seconds();
        case MoveState::catchup:
            if (in_state < window_seconds_min) return catchup_seconds(static_cast<double>(progress.lag_bytes)) + verify_seconds();
            if (progress.lag_bytes > 0 && lag_per_second_ <= 0) return std::nullopt;  // it doesn't come nearer
            return (progress.lag_bytes == 0 ? 0 : static_cast<double>(progress.lag_bytes) / lag_per_second_) + verify_seconds();
        case MoveState::verify:
            if (progress.rows_verified > 0) return std::nullopt;  // compared: it waits for an operator, or tries the cutover
            return std::max(verify_seconds() - in_state, in_state / 10);
        default:
            return std::nullopt;
    }
}

void Estimate::see(Time now, MoveState state, const MoveProgress& progress) {
    if (state != state_) {
        state_ = state;
        state_since_ = now;
        window_.clear();
        lag_per_second_ = 0;
    }
    if (bytes_total_ == 0) bytes_total_ = bytes_with_indexes_;
    if (state == MoveState::index) bytes_total_ = progress.bytes_copied;
    window_.push_back({now, progress.rows_copied, progress.bytes_copied, progress.lag_bytes});
    while (window_.size() > 2 && now - window_[1].at >= window) window_.pop_front();
    measure(progress);
    if (state != MoveState::copy) bytes_per_second_ = 0;
    seconds_left_ = left(state, progress, Seconds(now - state_since_).count());
}

}  // namespace pgporter
