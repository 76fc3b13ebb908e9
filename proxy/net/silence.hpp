// Silence: peers whose host is gone without a word (power, network, a firewall that forgot the connection). TCP's own questions find them, in a
// bounded time. Functions and a small value that belongs to a connection; same thread.
//
// It must not: take a peer for silent whose host answers, however long its program takes. A server's backend that waits for a lock reads nothing;
// so TCP_USER_TIMEOUT, which also ends connections with a closed window, is for clients only, whose bound for that is another one.
#pragma once

#include <chrono>
#include <optional>

#include "proxy/net/types.hpp"

namespace pgporter {

// Probes while nothing is under way. `ms_max` 0: as the operating system has it. Sockets that aren't TCP are left alone.
void ask_idle_peer(int fd, std::chrono::milliseconds ms_max);
// Bytes that stay unacknowledged end the connection, and so does a window that stays closed.
void bound_unacknowledged(int fd, std::chrono::milliseconds ms_max);

// Looks at a connection again and again (every second): have bytes been under way for so long that nobody has acknowledged?
class SilenceWatch {
  public:
    // True: its host has answered nothing for `ms_max`, though it was asked.
    [[nodiscard]] bool is_silent(int fd, SteadyTime now, std::chrono::milliseconds ms_max);

  private:
    std::optional<SteadyTime> asked_since_;  // by what is under way now
};

}  // namespace pgporter
