#include "admin/api/event_queue.hpp"

#include <algorithm>

#include "admin/api/json_views.hpp"

namespace pgporter {

// RFC 3339 in UTC compares as text. Events that came while the present state was being read may be older than it.
bool EventQueue::is_old(const MoveEvent& event) const { return event.record.updated_at < present_updated_at_; }

void EventQueue::begin(const MoveRecord& present) {
    begun_ = true;
    present_updated_at_ = present.updated_at;
    std::erase_if(events_, [this](const MoveEvent& event) { return is_old(event); });
    // The first event needs a number that doesn't hide the next one's.
    const auto sequence = events_.empty() || events_.front().sequence == 0 ? 0 : events_.front().sequence - 1;
    events_.push_front(MoveEvent{sequence, "state", present});
}

bool EventQueue::push(const MoveEvent& event) {
    if (begun_ && is_old(event)) return true;
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
