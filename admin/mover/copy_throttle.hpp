// CopyThrottle: looks four times a second at what the move does to its neighbours, and sets the copy's pace. Before the copy it learns what
// their latency is without it. One per move, owned by it, with a thread of its own; begin(), end() and state() from the move's thread,
// set_standby_lag() from any. It must not: ask a server.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "admin/mover/copy_pacer.hpp"
#include "admin/mover/neighbour_judge.hpp"
#include "base/metrics.hpp"
#include "catalog/config.hpp"
#include "catalog/neighbour_latency.hpp"

namespace pgporter {

class CopyThrottle {
  public:
    struct Settings {
        double latency_ratio_max = 1.5;
        std::uint32_t share_percent_min = 5;
        std::uint64_t standby_lag_bytes_max = 0;  // 0: not looked at
        std::uint64_t bytes_per_second_max = 0;   // 0: no bound
        std::uint32_t jobs = 1;
    };
    // How much of the last seconds the copy was kept from working, and by whom most.
    struct State {
        double throttled = 0;  // 0 to 1
        std::string by;        // of all_slowing; empty: by nobody
    };

    using Watches = std::vector<std::unique_ptr<LatencyWatch>>;
    // `watches`: of the clusters that the move burdens. What they see before begin() is what the neighbours are used to.
    CopyThrottle(const Settings& settings, Watches watches, metrics::Registry& registry);
    ~CopyThrottle();

    // Enough was seen to compare with, or there is nobody.
    [[nodiscard]] bool knows_quiet() const { return knows_quiet_.load(); }
    [[nodiscard]] bool knows_quiet_well() const { return !learns_anew_.load() && knows_quiet_well_.load(); }  // so that a long copy may rely on it

    void learn_anew();  // what was heard until now isn't what the neighbours are used to
    void begin();       // the copy begins
    void end();         // it has ended
    void set_standby_lag(std::uint64_t bytes) { standby_lag_bytes_.store(bytes, std::memory_order_relaxed); }
    [[nodiscard]] CopyPacer& pacer() { return pacer_; }
    [[nodiscard]] State state() const;

  private:
    struct Watched {
        std::unique_ptr<LatencyWatch> watch;
        NeighbourJudge judge;
    };
    void run();
    void listen(bool is_copying);
    void judge();
    [[nodiscard]] std::optional<Neighbours> judge_neighbours(std::chrono::nanoseconds since);
    void set_pace(SlowedBy by);
    void count();

    const Settings settings_;
    std::vector<Watched> watched_;
    CopyPacer pacer_;
    Pace pace_;
    metrics::Gauge* share_gauge_;
    metrics::Gauge* ratio_gauge_ = nullptr;
    std::array<metrics::Counter*, all_slowing.size()> slept_seconds_{};
    std::array<std::chrono::nanoseconds, all_slowing.size()> slept_{};    // when last looked at
    std::array<std::chrono::seconds, all_slowing.size()> counted_{};     // in slept_seconds_
    std::chrono::nanoseconds worked_{0};
    std::chrono::steady_clock::time_point judged_at_;
    std::atomic<std::uint64_t> standby_lag_bytes_{0};
    std::atomic<bool> copying_{false};
    std::atomic<bool> learns_anew_{false};
    std::atomic<bool> knows_quiet_{false};
    std::atomic<bool> knows_quiet_well_{false};
    Interrupt own_;  // ends the thread's waits
    mutable std::mutex mutex_;
    State state_;
    std::thread thread_;
};

}  // namespace pgporter
