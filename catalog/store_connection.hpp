// StoreConnection: the store's one connection to the catalog database, opened when needed and again when it broke, and
// the transactions on it. A StoreTransaction holds the connection's lock from begin to end. Control-plane threads only.
#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/pg_connection.hpp"

namespace pgporter {

// A new connection to the catalog with the settings that every statement of ours relies on. The schema isn't looked at.
constexpr std::chrono::milliseconds catalog_answer_max{15'000};
[[nodiscard]] Result<PgConnection> connect_catalog(const CatalogConfig& config, const std::string& purpose,
                                                   std::chrono::milliseconds answer_max = catalog_answer_max);

class StoreConnection {
  public:
    explicit StoreConnection(CatalogConfig config) : config_(std::move(config)) {}

    [[nodiscard]] Result<void> open();  // connects and brings the schema up to date, if that isn't done
    [[nodiscard]] const CatalogConfig& config() const { return config_; }

  private:
    friend class StoreTransaction;
    [[nodiscard]] Result<void> make_ready();  // with mutex_ held

    CatalogConfig config_;
    std::mutex mutex_;
    PgConnection connection_;
    bool migrated_ = false;
};

// One transaction. Rolled back when destroyed before commit().
class StoreTransaction {
  public:
    enum class Mode { read_write, read_only };

    [[nodiscard]] static Result<StoreTransaction> begin(StoreConnection& store, Mode mode);
    StoreTransaction(StoreTransaction&& other) noexcept;
    StoreTransaction& operator=(StoreTransaction&&) = delete;
    ~StoreTransaction();

    [[nodiscard]] PgConnection& sql() { return store_->connection_; }
    // An error with outcome_unknown(): the connection was lost while the server committed.
    [[nodiscard]] Result<void> commit();
    [[nodiscard]] bool outcome_unknown() const { return outcome_unknown_; }
    void rollback();  // also gives the connection back

  private:
    StoreTransaction(StoreConnection& store, std::unique_lock<std::mutex> lock)
        : store_(&store), lock_(std::move(lock)) {}

    StoreConnection* store_;
    std::unique_lock<std::mutex> lock_;
    bool outcome_unknown_ = false;
};

}  // namespace pgporter
