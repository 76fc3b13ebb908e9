// ReplicationRelay: the server's side of a replication connection, which is one client's alone: opened with the client's `replication`
// parameter, never pooled, and after the login the bytes go through as they are, both ways (COPY in both directions has no end that we could
// wait for). Owned by its session, same thread. It must not: interpret what is replicated.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "proxy/net/stream.hpp"
#include "proxy/pool/server_connection.hpp"
#include "proxy/wire/frame_reader.hpp"
#include "proxy/wire/startup.hpp"

namespace pgporter {

struct DataPathShared;

enum class ReplicationMode {
    none,
    physical,  // replication=true
    database   // replication=database: logical decoding, and SQL
};
// What the startup parameter `replication` asks for, read as PostgreSQL reads it. Error 22023.
[[nodiscard]] Result<ReplicationMode> replication_mode(const StartupMessage& startup);

class ReplicationRelay {
  public:
    // Takes the connection's stream. `release` gives back what was counted for it; called once, by close().
    ReplicationRelay(ServerConnection& opened, std::function<void()> release);

    // Each passes bytes on until one side has ended. True: it was the reading side's end, in the orderly way.
    [[nodiscard]] Task<bool> to_server(Stream& client, std::string early);
    [[nodiscard]] Task<bool> to_client(Stream& client, Deadline& deadline, Milliseconds write_ms_max);
    // A cancel request for what runs there. Outlives the relay.
    [[nodiscard]] Task<> send_cancel(IoThread& thread, DataPathShared& shared) const;
    // No message to the client is half way: something of our own may be said.
    [[nodiscard]] bool is_between_messages() const { return !writing_ && frames_.at_boundary(); }
    void close();

  private:
    static Task<> send_cancel_to(IoThread& thread, DataPathShared& shared, ServerAddress address, std::uint32_t pid, std::string key);

    ServerAddress address_;
    std::uint32_t pid_;
    std::string cancel_key_;
    std::unique_ptr<Stream> server_;
    FrameReader frames_;
    bool writing_ = false;
    std::function<void()> release_;
};

}  // namespace pgporter
