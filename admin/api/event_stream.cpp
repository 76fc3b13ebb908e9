#include "admin/api/event_stream.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "admin/api/problem.hpp"
#include "admin/api/resources.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::seconds heartbeat_every{15};

// Written by hand: the body has no length, the connection's end is its end.
constexpr std::string_view stream_head =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n";

}  // namespace

void EventStream::start(MoveId move, ApiRequest request) {
    request_ = std::move(request);
    core_.events.add(move, shared_from_this());
    watch_client();
    // The connection has looked the move up already, but events of the time between would be lost: look again, listening.
    look();
}

void EventStream::look() {
    boost::asio::post(*core_.work, [self = shared_from_this(), heard = heard_]() mutable {
        auto present = find_requested_move(self->core_.ports, self->request_);
        auto& io = self->core_.io;
        boost::asio::post(io, [self = std::move(self), present = std::move(present), heard]() mutable {
            self->on_look(std::move(present), heard);
        });
    });
}

void EventStream::on_look(Result<MoveRecord> present, std::uint64_t heard) {
    if (ended_) return;
    if (begun_) {
        // While events come the journal's answer may be older than they are. It is for moves that another instance runs.
        if (present && heard == heard_ && !queue_.refresh(*present)) end();
        write_next();
        return;
    }
    begun_ = true;
    if (!present) {  // the catalog went away in between: the client asks again after `retry`
        end();
        return;
    }
    queue_.begin(*present);
    schedule_heartbeat();
    write(std::string(stream_head) + "retry: 2000\n\n");
}

void EventStream::on_move_event(const MoveEvent& event) {
    if (ended_) return;
    ++heard_;
    if (!queue_.push(event)) {
        end();
        return;
    }
    write_next();
}

// Nothing is expected from the client any more: whatever comes, even its end, ends the stream.
void EventStream::watch_client() {
    stream_.socket().async_read_some(boost::asio::buffer(unwanted_),
                                     [self = shared_from_this()](boost::system::error_code, std::size_t) { self->end(); });
}

void EventStream::schedule_heartbeat() {
    heartbeat_.expires_after(heartbeat_every);
    heartbeat_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
        if (ec || self->ended_) return;
        if (!self->busy_) self->write(": still here\n\n");
        self->look();
        self->schedule_heartbeat();
    });
}

void EventStream::write(std::string text) {
    busy_ = true;
    writing_ = std::move(text);
    stream_.expires_after(ApiLimits::request_max);
    boost::asio::async_write(stream_, boost::asio::buffer(writing_),
                             [self = shared_from_this()](boost::system::error_code ec, std::size_t) {
                                 self->busy_ = false;
                                 if (ec) {
                                     self->end();
                                     return;
                                 }
                                 self->stream_.expires_never();
                                 self->write_next();
                             });
}

void EventStream::write_next() {
    if (ended_ || busy_ || !begun_) return;
    if (queue_.finished()) {
        end();
        return;
    }
    if (auto text = queue_.pop()) write(std::move(*text));
}

void EventStream::end() {
    if (std::exchange(ended_, true)) return;
    core_.events.remove(this);
    heartbeat_.cancel();
    boost::system::error_code ignored;
    stream_.socket().shutdown(boost::asio::ip::tcp::socket::shutdown_both, ignored);
    stream_.close();
}

}  // namespace pgporter
