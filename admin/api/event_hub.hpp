// EventHub: brings the mover's events from the moves' threads to the event streams on the API's I/O thread. Owned by ServerCore.
// open(), close(), add() and remove() on the I/O thread. A mover thread only posts a value; it never waits for a reader.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "admin/mover/mover.hpp"

namespace pgporter {

class MoveEventReader {
  public:
    virtual ~MoveEventReader() = default;
    virtual void on_move_event(const MoveEvent& event) = 0;
};

class EventHub {
  public:
    EventHub(boost::asio::io_context& io, Mover& mover) : io_(io), mover_(mover) {}
    ~EventHub() { close(); }
    EventHub(const EventHub&) = delete;
    EventHub& operator=(const EventHub&) = delete;

    void open();   // subscribes to the mover
    void close();  // any thread; after it no mover thread touches the io_context

    void add(MoveId move, const std::shared_ptr<MoveEventReader>& reader);
    [[nodiscard]] std::size_t size() const { return readers_.size(); }
    void remove(const MoveEventReader* reader);

  private:
    // Outlives the hub as long as a mover thread is in its callback.
    struct Door {
        std::mutex mutex;
        EventHub* hub = nullptr;
    };
    void deliver(const MoveEvent& event);

    boost::asio::io_context& io_;
    Mover& mover_;
    std::shared_ptr<Door> door_;
    std::uint64_t subscription_ = 0;
    std::unordered_multimap<MoveId, std::weak_ptr<MoveEventReader>> readers_;
};

}  // namespace pgporter
