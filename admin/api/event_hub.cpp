#include "admin/api/event_hub.hpp"

#include <boost/asio/post.hpp>
#include <utility>
#include <vector>

namespace pgporter {

void EventHub::open() {
    door_ = std::make_shared<Door>();
    door_->hub = this;
    subscription_ = mover_.subscribe([door = door_](const MoveEvent& event) {
        const std::lock_guard lock(door->mutex);
        if (door->hub == nullptr) return;
        boost::asio::post(door->hub->io_, [hub = door->hub, event] { hub->deliver(event); });
    });
}

void EventHub::close() {
    if (!door_) return;
    {
        const std::lock_guard lock(door_->mutex);
        door_->hub = nullptr;
    }
    mover_.unsubscribe(subscription_);
    door_.reset();
}

void EventHub::add(MoveId move, const std::shared_ptr<MoveEventReader>& reader) { readers_.emplace(move, reader); }

void EventHub::remove(const MoveEventReader* reader) {
    std::erase_if(readers_, [reader](const auto& entry) {
        const auto live = entry.second.lock();
        return !live || live.get() == reader;
    });
}

void EventHub::deliver(const MoveEvent& event) {
    // A reader may leave while it reads: work on a copy.
    std::vector<std::shared_ptr<MoveEventReader>> readers;
    const auto [begin, end] = readers_.equal_range(event.record.id);
    for (auto it = begin; it != end; ++it) {
        if (auto reader = it->second.lock()) readers.push_back(std::move(reader));
    }
    for (const auto& reader : readers) reader->on_move_event(event);
}

}  // namespace pgporter
