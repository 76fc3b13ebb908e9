// What one event stream has yet to send. Every event carries the whole move, so progress events that wait are replaced by the
// newest one, and a reader that reconnects has lost nothing. Pure; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "admin/mover/mover.hpp"

namespace pgporter {

class EventQueue {
  public:
    static constexpr std::size_t events_max = 64;

    // The move as the journal had it after push() began to be called: the first event, unless events came meanwhile. Those were written to
    // the journal before they were told, so the newest of them is as new as `present`, or its own event is on the way.
    void begin(const MoveRecord& present);
    // The journal's state later on: told only if it is another one than the last that was heard of (a move that another instance runs).
    [[nodiscard]] bool refresh(const MoveRecord& present);
    // False: the reader is so slow that even state changes don't fit; end the stream (it will ask again).
    [[nodiscard]] bool push(const MoveEvent& event);
    // The next event's text, ready to be written; nothing: none waits.
    [[nodiscard]] std::optional<std::string> pop();
    // The last event said that the move is finished: nothing will follow.
    [[nodiscard]] bool finished() const { return finished_; }

  private:
    bool begun_ = false;
    bool finished_ = false;
    std::uint64_t last_sequence_ = 0;
    MoveState last_state_ = MoveState::planned;  // of the newest event
    std::deque<MoveEvent> events_;
};

// One server-sent event: id, event and data lines and the empty line.
[[nodiscard]] std::string event_text(const MoveEvent& event);

}  // namespace pgporter
