// HttpServer: the admin API over HTTP/1.1. Its own thread with its own io_context; what may block (catalog, clusters) runs on a few
// work threads of its own. Owned by proxy/app, which outlives it with everything in ApiPorts; start() and stop() from one thread.
// It must not: touch a data-path thread, or decide anything that the catalog and the mover don't say.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "admin/mover/mover.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/follower.hpp"
#include "catalog/snapshot.hpp"
#include "catalog/store.hpp"

namespace pgporter {

struct ApiPorts {
    const Config& config;
    CatalogStore& store;
    CatalogFollower& follower;
    SnapshotPublisher& publisher;
    Mover& mover;
    metrics::Registry& registry;
    std::function<bool()> draining;  // any thread; empty: never
};

class HttpServer {
  public:
    explicit HttpServer(ApiPorts ports);
    ~HttpServer();  // stop()
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    [[nodiscard]] Result<void> start();  // binds config.admin; unavailable: the port is in use
    // Ends all connections; waits for work that has begun.
    void stop();
    [[nodiscard]] std::uint16_t port() const;  // the bound one; 0 before start()

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace pgporter
