// CatalogFollower: keeps the published snapshot equal to the catalog. A thread of its own: LISTEN first, then read, then follow by
// notification, with a full resync after every reconnect; every resync_ms it looks whether a notification was missed. When the catalog is down it goes on trying (bounded
// backoff) and the last snapshot stays. Saves what it published to catalog.snapshot_file (temporary file, fsync, rename; mode 0600);
// when a large catalog changes often, not every state of it.
// Owned by proxy/app; start() and stop() from one thread.
#pragma once

#include <memory>
#include <string>

#include "base/metrics.hpp"
#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

class CatalogStore;

class CatalogFollower {
  public:
    CatalogFollower(const CatalogConfig& config, CatalogStore& store, SnapshotPublisher& publisher, metrics::Registry& registry);
    ~CatalogFollower();

    // First snapshot: from the catalog; if it can't be reached, from snapshot_file (a warning); if neither, the catalog's error
    // with a hint. After a success the thread runs.
    [[nodiscard]] Result<void> start();
    void stop();
    [[nodiscard]] bool connected() const;  // to the catalog database, now
    // Reads the catalog and publishes before it returns: after a change made through this instance's own API.
    [[nodiscard]] Result<void> sync_now();

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

[[nodiscard]] Result<void> save_snapshot_file(const Snapshot& snapshot, const std::string& path);
[[nodiscard]] Result<SnapshotContent> load_snapshot_file(const std::string& path);

}  // namespace pgporter
