// Acceptor: one listening address, of TCP or a Unix-domain socket. Accepts on the first worker's thread and hands each socket to the worker
// with the fewest clients (docs/decisions/0015-threads.md). Owned by proxy/app.
#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "proxy/net/local_socket.hpp"
#include "proxy/net/types.hpp"
#include "proxy/session/session.hpp"

namespace pgporter {

class Acceptor : public std::enable_shared_from_this<Acceptor> {
  public:
    // Binds and listens, before the threads run. `conflict` when the port is in use.
    static Result<std::shared_ptr<Acceptor>> open(DataPathShared& shared, const ListenConfig& config);
    Acceptor(DataPathShared& shared, std::shared_ptr<const Listener> listener);

    void run();   // once
    void stop();  // on the first worker's thread
    [[nodiscard]] const std::string& address() const { return local_ ? local_->path() : listener_->config.address; }
    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] const std::shared_ptr<ListenerTls>& tls() const { return listener_->tls; }  // null: no TLS

  private:
    Result<void> listen_tcp();
    Result<void> listen_local();
    static Task<> accept_loop(std::shared_ptr<Acceptor> self);
    enum class Place { free, told_no, closed };  // told_no: it is let in to hear that there is none
    [[nodiscard]] Place place_for(int fd) const;
    [[nodiscard]] bool accept_some();
    void hand_over(int fd);
    [[nodiscard]] Worker& least_loaded();
    void note_failure(const std::string& reason);

    DataPathShared& shared_;
    std::shared_ptr<const Listener> listener_;
    asio::basic_socket_acceptor<asio::generic::stream_protocol, Executor> acceptor_;
    std::unique_ptr<LocalSocketFile> local_;  // null: TCP
    Timer pause_;  // after an accept that failed for lack of descriptors
    std::size_t next_worker_ = 0;
    SteadyTime failure_logged_at_{};
    std::uint16_t port_ = 0;
    bool stopped_ = false;
};

}  // namespace pgporter
