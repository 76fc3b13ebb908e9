// ReplicationStream: one logical replication connection to the source: makes slots, starts the stream, hands out
// pgoutput messages, answers keepalives. Owned by the thread that applies (or verifies). It must not: decide what is
// confirmed; confirm() is told.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "admin/mover/lsn.hpp"
#include "admin/mover/server_session.hpp"

namespace pgporter {

struct ExportedSlot {
    Lsn consistent_point;  // commits from here on are in the stream, those before are in the snapshot
    std::string snapshot;  // lives until the next command of this connection
};

class ReplicationStream {
  public:
    [[nodiscard]] static Result<ReplicationStream> connect(const LibpqParams& params, const Interrupt& interrupt,
                                                           std::chrono::milliseconds connect_timeout);

    // Waits for all transactions that are running in the source's server: bounded by the deadline, then nothing is left
    // there.
    [[nodiscard]] Result<ExportedSlot> create_slot(const std::string& name, bool temporary, Deadline deadline);
    [[nodiscard]] Result<void> start(const std::string& slot, const std::string& publication);

    // The next message that has already arrived, without waiting. Empty: none now. Valid until the next call.
    [[nodiscard]] Result<std::optional<std::string_view>> poll_message();
    // Tells the source what is durable on the target. `ask` wants a keepalive in return.
    [[nodiscard]] Result<void> confirm(Lsn durable, bool ask = false);

    [[nodiscard]] int socket() const { return session_->socket(); }
    [[nodiscard]] ServerSession& session() { return *session_; }
    // How far the source's log has been sent to us, transactions or not.
    [[nodiscard]] Lsn received() const { return received_; }
    // Everything that was committed before here has been handed out already (from keepalives, in the order of the
    // stream).
    [[nodiscard]] Lsn idle_position() const { return idle_position_; }
    // The source wants to hear from us now (it closes silent connections).
    [[nodiscard]] bool reply_wanted() const { return reply_wanted_; }

  private:
    explicit ReplicationStream(std::unique_ptr<ServerSession> session) : session_(std::move(session)) {}

    std::unique_ptr<ServerSession> session_;
    struct Free {
        void operator()(char* buffer) const;
    };
    std::unique_ptr<char, Free> buffer_;  // the last message, as libpq gave it
    Lsn received_;
    Lsn idle_position_;
    bool reply_wanted_ = false;
};

}  // namespace pgporter
