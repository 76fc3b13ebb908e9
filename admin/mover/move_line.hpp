// MoveLine: begins the moves that wait in line (catalog/move_queue.hpp) when their turn comes. One per Mover, with a thread of its own,
// which asks the journal when something has changed here, and once a second for what changes elsewhere. look() and count_refusal() from
// any thread. It must not: decide that a move may begin (MoveJournal::admit does, on the move's own thread).
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "base/metrics.hpp"
#include "catalog/config.hpp"
#include "catalog/journal.hpp"

namespace pgporter {

class MoveLine {
  public:
    struct Ports {
        const MoverConfig& config;
        MoveJournal& journal;
        metrics::Registry& registry;
        std::function<bool(MoveId)> begin;                  // starts the move's thread; false: it can't be begun here now
        std::function<void(const MoveRecord&)> tell_place;  // of one that waits: its place has changed
    };
    explicit MoveLine(Ports ports);
    ~MoveLine();  // stop()

    void start();  // more than once: as look()
    void look();   // now rather than at the next second
    void stop();   // afterwards nothing begins here any more
    void count_refusal() { refused_->inc(); }

  private:
    void run();
    void serve();
    void tell_places(const std::vector<QueueEntry>& moves);

    Ports ports_;
    metrics::Gauge* waiting_;
    metrics::Counter* refused_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool asked_ = false;
    bool stopping_ = false;
    std::map<MoveId, std::size_t> places_;  // as last told
    std::thread thread_;
};

}  // namespace pgporter
