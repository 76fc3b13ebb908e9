// What the connections of one HttpServer share. Owned by HttpServer; the io_context's thread only, except the dispatcher's answer()
// and the work threads. Bounds of the API are here, by name.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "admin/api/dispatch.hpp"
#include "admin/api/event_hub.hpp"
#include "base/metrics.hpp"

namespace pgporter {

struct ApiLimits {
    static constexpr std::uint32_t header_bytes_max = 16 * 1024;
    static constexpr std::uint64_t body_bytes_max = 4 * 1024 * 1024;
    static constexpr std::size_t connections_max = 200;
    static constexpr std::size_t event_streams_max = 50;
    static constexpr std::chrono::seconds request_max{30};  // from the first byte of a request to its last; also of one answer's write
    static constexpr std::chrono::seconds idle_max{60};     // between two requests
    static constexpr std::chrono::seconds linger_max{2};    // after the last answer, so that it isn't lost to a reset
    static constexpr std::size_t linger_bytes_max = 8 * 1024 * 1024;
    static constexpr std::size_t work_threads = 3;
};

struct ServerCore {
    ServerCore(const ApiPorts& ports_in, boost::asio::io_context& io_in)
        : ports(ports_in),
          io(io_in),
          dispatcher(ports),
          events(io_in, ports.mover),
          connections_gauge(ports.registry.gauge("pgporter_api_connections", "Open connections to the admin API.")),
          refused(ports.registry.counter("pgporter_api_refused_connections_total", "Connections to the admin API over its bound.")) {}

    const ApiPorts ports;
    boost::asio::io_context& io;
    Dispatcher dispatcher;
    EventHub events;
    metrics::Gauge& connections_gauge;
    metrics::Counter& refused;
    std::size_t connections = 0;
    // HttpServer takes it down before the io_context, since work that never began still owns its connection.
    std::unique_ptr<boost::asio::thread_pool> work = std::make_unique<boost::asio::thread_pool>(ApiLimits::work_threads);
};

// One place of the connections' bound; it goes with the socket from the connection to the event stream.
class ConnectionPlace {
  public:
    explicit ConnectionPlace(ServerCore& core) : core_(&core) { core.connections_gauge.set(static_cast<std::int64_t>(++core.connections)); }
    ConnectionPlace(ConnectionPlace&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
    ConnectionPlace(const ConnectionPlace&) = delete;
    ConnectionPlace& operator=(const ConnectionPlace&) = delete;
    ConnectionPlace& operator=(ConnectionPlace&&) = delete;
    ~ConnectionPlace() {
        if (core_ != nullptr) core_->connections_gauge.set(static_cast<std::int64_t>(--core_->connections));
    }

  private:
    ServerCore* core_;
};

}  // namespace pgporter
