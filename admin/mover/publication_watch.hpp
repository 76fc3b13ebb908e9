// PublicationWatch: shared tables are published while the move runs; were one to lose its replica identity meanwhile,
// PostgreSQL would refuse every tenant's updates and deletes of it. The watch looks twice a second, and then takes the
// publication away at once and cancels the move. Owned by the move, a thread and a connection of its own. It must not:
// touch anything else.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "admin/mover/move_servers.hpp"

namespace pgporter {

// One text: the published tables of this move whose updates or deletes PostgreSQL would refuse; null when there are none.
[[nodiscard]] std::string harmful_publication_query(const std::string& publication);

class PublicationWatch {
  public:
    // `interrupt`: cancelled when the publication had to be taken away.
    [[nodiscard]] static Result<std::unique_ptr<PublicationWatch>> start(const MoveServers& servers, Interrupt& interrupt);
    ~PublicationWatch();

    // Why it was taken away; empty: it wasn't.
    [[nodiscard]] std::string finding() const;

  private:
    PublicationWatch(const MoveServers& servers, Interrupt& interrupt) : servers_(&servers), interrupt_(&interrupt) {}
    void run();
    [[nodiscard]] Result<void> look();

    const MoveServers* servers_;
    Interrupt* interrupt_;
    Interrupt own_;  // ends the thread's waits
    std::unique_ptr<ServerSession> session_;
    mutable std::mutex mutex_;
    std::string finding_;
    std::thread thread_;
};

}  // namespace pgporter
