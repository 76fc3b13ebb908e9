// MoveServers: opens connections to the two ends of one move, as the mover's own user. Source is where changes come
// from: on the way back that is the move's target. Immutable once built; any of the move's threads.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "admin/mover/interrupt.hpp"
#include "admin/mover/move_names.hpp"
#include "admin/mover/replication_stream.hpp"
#include "admin/mover/schema_tables.hpp"
#include "admin/mover/server_session.hpp"
#include "admin/mover/shared_rows.hpp"
#include "catalog/config.hpp"
#include "catalog/move.hpp"
#include "catalog/snapshot.hpp"

namespace pgporter {

class MoveServers {
  public:
    // not_found: a cluster that the catalog doesn't know.
    [[nodiscard]] static Result<MoveServers> find(const Config& config, const Snapshot& snapshot,
                                                  const Placement& source, const Placement& target,
                                                  const Interrupt& interrupt, MoveId move);

    [[nodiscard]] LibpqParams source_params() const { return params(source_cluster_, source_.database); }
    [[nodiscard]] LibpqParams target_params() const { return params(target_cluster_, target_.database); }
    [[nodiscard]] Result<std::unique_ptr<ServerSession>> source() const { return open(source_params()); }
    [[nodiscard]] Result<std::unique_ptr<ServerSession>> target() const { return open(target_params()); }
    // The servers' maintenance database: where databases are made, dropped and looked for.
    [[nodiscard]] Result<std::unique_ptr<ServerSession>> target_server() const {
        return open(params(target_cluster_, config_->mover.maintenance_database));
    }
    [[nodiscard]] Result<std::unique_ptr<ServerSession>> source_server() const {
        return open(params(source_cluster_, config_->mover.maintenance_database));
    }
    [[nodiscard]] Result<ReplicationStream> replication() const {
        return ReplicationStream::connect(source_params(), *interrupt_, config_->mover.connect_timeout_ms);
    }

    // To the maintenance database: whether it is possible at all, before the target database exists.
    [[nodiscard]] Result<ReplicationStream> target_server_replication() const {
        return ReplicationStream::connect(params(target_cluster_, config_->mover.maintenance_database), *interrupt_,
                                          config_->mover.connect_timeout_ms);
    }

    [[nodiscard]] const Config& config() const { return *config_; }
    [[nodiscard]] const Placement& source_placement() const { return source_; }
    [[nodiscard]] const Placement& target_placement() const { return target_; }
    [[nodiscard]] const std::string& schema() const { return source_.schema; }
    // The schemas that the move is about. Of a tenant without a schema of its own: empty before read_shared_schemas().
    [[nodiscard]] const SchemaList& schemas() const { return schemas_; }
    // Null: the tenant has a schema of its own. Else it is rows of shared tables at one end, or was: what moves is whole databases' schemas.
    [[nodiscard]] const SharedRows* rows() const { return rows_ ? &*rows_ : nullptr; }
    // At which of the ends, as these face.
    [[nodiscard]] bool shared_source() const { return source_.kind == PlacementKind::rows; }
    [[nodiscard]] bool shared_target() const { return target_.kind == PlacementKind::rows; }
    void set_rows(SharedRows rows) { rows_ = std::move(rows); }
    [[nodiscard]] Result<void> read_shared_schemas();
    // For people: what the move is about.
    [[nodiscard]] std::string what_moves() const {
        return shared_source() ? "the shared tables" : source_.schema.empty() ? "the tenant's database" : "schema " + source_.schema;
    }
    [[nodiscard]] MoveId move() const { return move_; }
    [[nodiscard]] Way way() const { return way_; }
    [[nodiscard]] MoveServers facing(Way way) const;
    [[nodiscard]] std::string artefact() const { return artefact_name(move_, way_); }
    [[nodiscard]] std::string opposite_artefact() const {
        return artefact_name(move_, way_ == Way::there ? Way::back : Way::there);
    }
    [[nodiscard]] std::string fence() const { return fence_name(move_, way_); }
    [[nodiscard]] const Interrupt& interrupt() const { return *interrupt_; }

  private:
    MoveServers() = default;
    [[nodiscard]] LibpqParams params(const Cluster& cluster, std::string_view database) const {
        return libpq_params(*config_, cluster, database, config_->mover.user, "mover " + std::to_string(move_.value));
    }
    [[nodiscard]] Result<std::unique_ptr<ServerSession>> open(const LibpqParams& params) const {
        return ServerSession::connect(params, *interrupt_, {.connect_timeout = config_->mover.connect_timeout_ms});
    }

    const Config* config_ = nullptr;
    const Interrupt* interrupt_ = nullptr;
    MoveId move_;
    Way way_ = Way::there;
    Placement source_;
    Placement target_;
    SchemaList schemas_;
    std::optional<SharedRows> rows_;
    Cluster source_cluster_;
    Cluster target_cluster_;
};

}  // namespace pgporter
