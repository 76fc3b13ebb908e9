// CatalogStore: the catalog database, over libpq. One connection behind a mutex, opened again when it broke. Blocking:
// control-plane threads only. Installs and upgrades the schema `pgporter` (catalog/migrations.cpp) on open().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/document.hpp"
#include "catalog/journal.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

class CatalogStore final : public MoveJournal {
  public:
    explicit CatalogStore(const CatalogConfig& config);
    ~CatalogStore() override;

    // This process among those that share the catalog: a random positive integer, new with each start.
    [[nodiscard]] std::uint32_t instance() const;
    [[nodiscard]] Result<void> open();  // connects, installs or upgrades the schema
    [[nodiscard]] Result<SnapshotContent> load();  // everything, in one REPEATABLE READ transaction
    // Makes the catalog match the document: creates and changes, never drops; reports. A placement that differs from the catalog's is an
    // error (only a move changes where a tenant lives), and so is a tenant whose schema another tenant has in the same database.
    [[nodiscard]] Result<ApplyReport> apply(const CatalogDocument& document, bool dry_run);
    [[nodiscard]] Result<Tenant> set_tenant_state(std::string_view tenant, TenantState state);
    // Forgets the tenant (its data stays where it is). conflict: it is being moved.
    [[nodiscard]] Result<void> remove_tenant(std::string_view tenant);

    // MoveJournal
    Result<MoveRecord> create_move(const MoveRequest& request, const Placement& source, const Placement& target, Epoch epoch,
                                   std::uint32_t unfinished_max) override;
    Result<std::vector<QueueEntry>> queue() override;
    Result<bool> admit(MoveId move, const QueueLimits& limits) override;
    Result<void> advance(MoveId move, MoveState from, MoveState to, std::string_view note) override;
    Result<void> save_progress(MoveId move, const MoveProgress& progress) override;
    Result<Tenant> flip(MoveId move, Epoch expected, CatalogVersion& version_out) override;
    Result<MoveRecord> find_move(MoveId move) override;
    Result<std::vector<MoveRecord>> list_moves(bool unfinished_only) override;
    Result<std::int64_t> add_cleanup(const CleanupRecord& record) override;
    Result<void> cleanup_done(std::int64_t id) override;
    Result<std::vector<CleanupRecord>> open_cleanups(MoveId move) override;
    Result<void> describe_target_database(MoveId move) override;
    Result<void> forget_target_database(MoveId move) override;
    Result<std::unique_ptr<MoveOwnership>> own_move(MoveId move) override;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace pgporter
