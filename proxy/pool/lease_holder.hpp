// LeaseHolder: what a server connection knows of whoever it is lent to. Implemented by proxy/session; same thread.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "proxy/net/types.hpp"

namespace pgporter {

class ServerConnection;

class LeaseHolder {
  public:
    virtual ~LeaseHolder() = default;
    // Bytes from the server. Takes from the front; stops right after the message that ends the lease (the lease is given back
    // inside this call). False: the server broke the protocol, the connection must end.
    virtual bool on_server_bytes(ServerConnection& server, std::string_view& input) = 0;
    // The client can't take more right now: the connection reads on only after flush_client().
    [[nodiscard]] virtual bool is_client_blocked() const = 0;
    [[nodiscard]] virtual Task<> flush_client() = 0;
    // The holder has used more than its rate: the connection reads on only after slow_down().
    [[nodiscard]] virtual bool must_slow_down() const = 0;
    [[nodiscard]] virtual Task<> slow_down() = 0;
    // The client has everything of the chunk: a lease that only waited for that may end now.
    virtual void on_client_flushed(ServerConnection& server) = 0;
    // A NotificationResponse came while a query of our own was running on the holder's connection.
    virtual void on_notification(std::string_view body) = 0;
    // An allocation failed while something was done for the holder: it ends.
    virtual void on_out_of_memory() = 0;
    // A prologue that went ahead of the holder's bytes (ServerConnection::go_ahead) is proven, or has failed, or the server has ended the connection
    // before: then nothing of what the holder sent was done, and it has to end its lease.
    virtual void on_proven(ServerConnection& server) = 0;
    virtual void on_not_proven(ServerConnection& server, const Error& error) = 0;
    // The connection is gone. The holder has lost its lease.
    virtual void on_server_lost(ServerConnection& server) = 0;
};

}  // namespace pgporter
