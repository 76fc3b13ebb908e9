#include "admin/mover/copy_throttle.hpp"

#include <algorithm>

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds look_every{250};
// What nobody watches is judged, too: standbys.
constexpr std::chrono::seconds judge_within{4};
constexpr double newest_counts = 0.2;  // of what State tells, so that it can be read

}  // namespace

CopyThrottle::CopyThrottle(const Settings& settings, Watches watches, metrics::Registry& registry)
    : settings_(settings), pacer_(settings.bytes_per_second_max),
      pace_(settings.share_percent_min / 100.0),
      share_gauge_(&registry.gauge("pgporter_move_copy_slowed_percent",
                                   "Sum over this instance's moves: how far below its full speed the copy's pace is set.")) {
    knows_quiet_.store(watches.empty());
    knows_quiet_well_.store(watches.empty());
    ratio_gauge_ = &registry.gauge("pgporter_move_neighbour_latency_percent",
                                   "p99 of all tenants' statements on the clusters of the move that copies, to that before it, when last looked at.");
    for (auto& watch : watches) watched_.push_back({std::move(watch), NeighbourJudge(settings.latency_ratio_max)});
    for (const auto by : all_slowing) {
        slept_seconds_[static_cast<std::size_t>(by)] =
            &registry.counter("pgporter_move_throttled_seconds_total",
                              "Time that copying threads of moves have waited so as not to disturb others.", {{"by", to_text(by)}});
    }
    thread_ = std::thread([this] { run(); });
}

CopyThrottle::~CopyThrottle() {
    own_.stop();
    if (thread_.joinable()) thread_.join();
}

void CopyThrottle::learn_anew() {
    learns_anew_.store(true);
}

void CopyThrottle::begin() {
    copying_.store(true);
}

void CopyThrottle::end() {
    copying_.store(false);
}

CopyThrottle::State CopyThrottle::state() const {
    const std::lock_guard lock(mutex_);
    return state_;
}

void CopyThrottle::run() {
    std::int64_t shown = 0;
    bool was_copying = false;
    while (own_.sleep(look_every)) {
        const bool is_copying = copying_.load();
        listen(is_copying);
        if (is_copying && !was_copying) {
            for (auto& watched : watched_) watched.judge.forget_recent();  // partly from before
            judged_at_ = std::chrono::steady_clock::now();
        }
        if (is_copying && was_copying) judge();
        was_copying = is_copying;
        count();
        const auto slowed = is_copying ? static_cast<std::int64_t>((1 - pace_.share()) * 100 + 0.5) : 0;
        share_gauge_->add(slowed - std::exchange(shown, slowed));
    }
    share_gauge_->add(-shown);
}

void CopyThrottle::listen(bool is_copying) {
    const bool learns_anew = learns_anew_.load();
    if (learns_anew) {
        knows_quiet_well_.store(false);
        learns_anew_.store(false);
    }
    for (auto& watched : watched_) {
        const auto seen = watched.watch->take();
        if (learns_anew) {
            watched.judge.learn_anew();
        } else {
            is_copying ? watched.judge.see(seen) : watched.judge.learn(seen);
        }
    }
    if (is_copying || learns_anew) return;
    knows_quiet_.store(std::all_of(watched_.begin(), watched_.end(), [](const Watched& w) { return w.judge.knows_enough(); }));
    knows_quiet_well_.store(std::all_of(watched_.begin(), watched_.end(), [](const Watched& w) { return w.judge.knows_plenty(); }));
    if (std::none_of(watched_.begin(), watched_.end(), [](const Watched& w) { return w.judge.has_neighbours(); })) return;
    // Set before the copy begins: its first moments count, too.
    pace_.begin_gently();
    set_pace(SlowedBy::neighbours);
}

// The worst of what is known of each cluster.
std::optional<Neighbours> CopyThrottle::judge_neighbours(std::chrono::nanoseconds since) {
    if (watched_.empty()) return since >= judge_within ? std::optional(Neighbours::absent) : std::nullopt;
    double ratio = 0;
    auto worst = Neighbours::absent;
    bool is_complete = true;
    for (auto& watched : watched_) {
        ratio = std::max(ratio, watched.judge.latency_ratio());
        const auto verdict = watched.judge.judge(since);
        is_complete = is_complete && verdict;
        if (verdict) worst = std::max(worst, *verdict);
    }
    if (!is_complete && worst != Neighbours::suffering) return std::nullopt;
    if (ratio > 0) ratio_gauge_->set(static_cast<std::int64_t>(ratio * 100));
    return worst;
}

void CopyThrottle::judge() {
    const auto now = std::chrono::steady_clock::now();
    const auto bound = settings_.standby_lag_bytes_max;
    const bool standbys_lag = bound != 0 && standby_lag_bytes_.load(std::memory_order_relaxed) > bound;
    const auto neighbours = judge_neighbours(now - judged_at_);
    if (!neighbours && !standbys_lag) return;
    pace_.judge(standbys_lag ? Neighbours::suffering : *neighbours);
    set_pace(standbys_lag ? SlowedBy::standbys : SlowedBy::neighbours);
    judged_at_ = now;
}

void CopyThrottle::set_pace(SlowedBy by) {
    pacer_.set_pace(plan_pace(pace_.share(), settings_.jobs), by);
}

void CopyThrottle::count() {
    std::chrono::nanoseconds slept{0};
    std::chrono::nanoseconds most{0};
    State now;
    for (const auto by : all_slowing) {
        const auto index = static_cast<std::size_t>(by);
        const auto all = pacer_.slept(by);
        const auto since = all - std::exchange(slept_[index], all);
        slept += since;
        if (since > most) {
            most = since;
            now.by = to_text(by);
        }
        const auto whole = std::chrono::duration_cast<std::chrono::seconds>(all);
        slept_seconds_[index]->inc(static_cast<std::uint64_t>((whole - std::exchange(counted_[index], whole)).count()));
    }
    const auto all_work = pacer_.worked();
    const auto worked = all_work - std::exchange(worked_, all_work);
    const double share = slept.count() == 0 ? 0 : static_cast<double>(slept.count()) / static_cast<double>((slept + worked).count());
    const std::lock_guard lock(mutex_);
    state_.throttled += (share - state_.throttled) * newest_counts;
    if (!now.by.empty()) state_.by = now.by;
    if (state_.throttled < 0.01) state_ = {};
}

}  // namespace pgporter
