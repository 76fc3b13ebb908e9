#include "admin/mover/move_line.hpp"

#include <chrono>

namespace pgporter {
namespace {

constexpr std::chrono::seconds look_every{1};

}  // namespace

MoveLine::MoveLine(Ports ports)
    : ports_(std::move(ports)),
      waiting_(&ports_.registry.gauge("pgporter_moves_waiting", "Moves of this catalog that wait in line for their turn.")),
      refused_(&ports_.registry.counter("pgporter_moves_refused_total", "Moves that were refused because mover.queue_max were waiting.")) {}

MoveLine::~MoveLine() {
    stop();
}

void MoveLine::start() {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    asked_ = true;
    changed_.notify_all();
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
}

void MoveLine::look() {
    const std::lock_guard lock(mutex_);
    asked_ = true;
    changed_.notify_all();
}

void MoveLine::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
}

void MoveLine::run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        asked_ = false;
        lock.unlock();
        serve();
        lock.lock();
        changed_.wait_for(lock, look_every, [this] { return asked_ || stopping_; });
    }
}

// One at a time: the next one's turn is decided when this one has left the line, of which we hear.
void MoveLine::serve() {
    const auto moves = ports_.journal.queue();
    if (!moves) return;  // the catalog is away: they wait
    waiting_->set(static_cast<std::int64_t>(waiting_in_line(*moves)));
    const auto next = next_in_line(*moves, {ports_.config.moves_max, ports_.config.moves_per_source_max});
    if (next) static_cast<void>(ports_.begin(*next));  // false: it is being begun, or later
    tell_places(*moves);
}

void MoveLine::tell_places(const std::vector<QueueEntry>& moves) {
    std::map<MoveId, std::size_t> places;
    for (const auto& move : moves) {
        if (move.state == MoveState::planned) places.emplace(move.move, places.size() + 1);
    }
    for (const auto& [move, place] : places) {
        const auto told = places_.find(move);
        if (told == places_.end() || told->second == place) continue;
        const auto record = ports_.journal.find_move(move);
        if (record && record->state == MoveState::planned) ports_.tell_place(*record);
    }
    places_ = std::move(places);
}

}  // namespace pgporter
