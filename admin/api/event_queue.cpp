#include "admin/api/event_queue.hpp"

#include "admin/api/json_views.hpp"

namespace pgporter {

void EventQueue::begin(const MoveRecord& present) {
    begun_ = true;
    if (!events_.empty()) return;
    last_state_ = present.state;
    events_.push_back(MoveEvent{last_sequence_, "state", present});
}

bool EventQueue::refresh(const MoveRecord& present) {
    if (!begun_ || present.state == last_state_) return true;
    return push(MoveEvent{last_sequence_, "state", present});
}

bool EventQueue::push(const MoveEvent& event) {
    last_sequence_ = event.sequence;
    last_state_ = event.record.state;
    if (event.type == "progress" && !events_.empty() && events_.back().type == "progress") {
        events_.back() = event;
        return true;
    }
    if (events_.size() >= events_max) return false;
    events_.push_back(event);
    return true;
}

std::optional<std::string> EventQueue::pop() {
    if (!begun_ || finished_ || events_.empty()) return std::nullopt;
    auto text = event_text(events_.front());
    finished_ = is_finished(events_.front().record.state);
    events_.pop_front();
    return text;
}

std::string event_text(const MoveEvent& event) {
    // JSON text has no line break, so one data line is enough.
    return "id: " + std::to_string(event.sequence) + "\nevent: " + event.type + "\ndata: " + boost::json::serialize(view_of(event.record)) +
           "\n\n";
}

}  // namespace pgporter
