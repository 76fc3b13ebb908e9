// What a move owes to others while it works: it watches its neighbours, ends before a server is harmed, and says how long it will take.
#include "admin/mover/move_run.hpp"

namespace pgporter {

// Of both clusters: on either there may be others. From now on it learns what they are used to.
void MoveRun::watch_neighbours() {
    const auto& mover = ports_.config.mover;
    constexpr std::uint64_t mib = 1'048'576;
    CopyThrottle::Watches watches;
    if (ports_.latency != nullptr && mover.neighbour_latency_ratio_max > 0) {
        watches.push_back(ports_.latency->watch(record_.source.cluster));
        if (record_.target.cluster != record_.source.cluster) watches.push_back(ports_.latency->watch(record_.target.cluster));
    }
    const CopyThrottle::Settings settings{.latency_ratio_max = mover.neighbour_latency_ratio_max,
                                          .share_percent_min = mover.throttled_percent_min,
                                          .standby_lag_bytes_max = mover.standby_lag_mib_max * mib,
                                          .bytes_per_second_max = mover.copy_mib_per_s_max * mib,
                                          .jobs = copy_jobs()};
    throttle_ = std::make_unique<CopyThrottle>(settings, std::move(watches), observer_->registry);
}

// A copy of seconds is over before it could be judged. Before a longer one the neighbours are watched while the move does nothing yet.
void MoveRun::learn_neighbours() {
    constexpr std::uint64_t long_copy_bytes = 128 * 1'048'576;
    constexpr std::chrono::seconds learned_within{5};
    if (estimate_.bytes_total() < long_copy_bytes) return;
    throttle_->learn_anew();  // it was looking ahead until now
    const auto until = after(learned_within);
    while (!throttle_->knows_quiet_well() && !passed(until) && interrupt_.sleep(std::chrono::milliseconds(50))) {
    }
}

void MoveRun::look_ahead() {
    auto& progress = record_.progress;
    estimate_.see(std::chrono::steady_clock::now(), record_.state, progress);
    if (estimate_.bytes_total() != 0) progress.bytes_total_estimate = estimate_.bytes_total();
    progress.bytes_per_second = estimate_.bytes_per_second();
    progress.seconds_left = estimate_.seconds_left();
}

// What ended the walk: an operator's cancel and those of our own watches look the same to it.
Error MoveRun::judge_end(const Error& error) {
    const auto harm = publication_watch_ ? publication_watch_->finding() : std::string();
    const auto bound = guard_ ? guard_->finding() : std::string();
    ended_by_guard_ = !harm.empty() || !bound.empty();
    if (!harm.empty()) return fail(ErrorKind::conflict, harm, {}, "give it back its key, then start again");
    return bound.empty() ? error : fail(ErrorKind::limit, bound);
}

void MoveRun::on_guard_report(const GuardReport& report) {
    {
        const std::lock_guard lock(mutex_);
        note_guard_report(report);
        if (record_.state != MoveState::index) return;
        // A program is at work, and nobody else tells.
        look_ahead();
    }
    observer_->event("progress", record());
}

void MoveRun::note_guard_report(const GuardReport& report) {
    auto& progress = record_.progress;
    progress.source_wal_bytes = report.source_wal_bytes;
    standby_lag_bytes_.store(report.standby_lag_bytes, std::memory_order_relaxed);
    static const std::string falling_behind = "the tenant is written to faster than its changes can be applied";
    if (report.falling_behind) progress.note = falling_behind;
    if (!report.falling_behind && progress.note == falling_behind) progress.note.clear();
}

}  // namespace pgporter
