// EventStream: one client that watches one move (server-sent events). Takes over the socket of an HTTP connection; keeps itself
// alive by its pending operations; I/O thread only. Ends after the event of a finished move, when the client leaves, or when it reads too slowly.
#pragma once

#include <array>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <memory>
#include <string>

#include "admin/api/event_hub.hpp"
#include "admin/api/event_queue.hpp"
#include "admin/api/server_core.hpp"

namespace pgporter {

class EventStream final : public MoveEventReader, public std::enable_shared_from_this<EventStream> {
  public:
    EventStream(ServerCore& core, boost::beast::tcp_stream stream, ConnectionPlace place)
        : core_(core), stream_(std::move(stream)), place_(std::move(place)), heartbeat_(core.io) {}
    ~EventStream() override = default;

    // Listens from now on, then reads the present state on a work thread and begins to write. `request` names the move.
    void start(MoveId move, ApiRequest request);
    void on_move_event(const MoveEvent& event) override;

  private:
    void look();  // reads the move on a work thread; on_look() follows here
    void on_look(Result<MoveRecord> present, std::uint64_t heard);
    void watch_client();
    void schedule_heartbeat();
    void write(std::string text);
    void write_next();
    void end();

    ServerCore& core_;
    boost::beast::tcp_stream stream_;
    ConnectionPlace place_;
    boost::asio::steady_timer heartbeat_;
    EventQueue queue_;
    ApiRequest request_;        // names the move; work threads read it
    std::uint64_t heard_ = 0;   // events that came
    std::string writing_;
    std::array<char, 64> unwanted_{};
    bool begun_ = false;
    bool busy_ = false;
    bool ended_ = false;
};

}  // namespace pgporter
