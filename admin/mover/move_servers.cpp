#include "admin/mover/move_servers.hpp"

namespace pgporter {

Result<MoveServers> MoveServers::find(const Config& config, const Snapshot& snapshot, const Placement& source,
                                      const Placement& target, const Interrupt& interrupt, MoveId move) {
    MoveServers servers;
    for (const auto& [placement, cluster] :
         {std::pair(&source, &servers.source_cluster_), {&target, &servers.target_cluster_}}) {
        const auto* found = snapshot.find_cluster(placement->cluster);
        if (found == nullptr) {
            return fail(ErrorKind::not_found, "there is no cluster named \"" + placement->cluster + "\"", {},
                        "add it with pgporter apply");
        }
        *cluster = *found;
    }
    servers.config_ = &config;
    servers.interrupt_ = &interrupt;
    servers.move_ = move;
    servers.source_ = source;
    servers.target_ = target;
    if (!source.schema.empty()) servers.schemas_ = SchemaList(source.schema);
    return servers;
}

MoveServers MoveServers::facing(Way way) const {
    auto servers = *this;
    if (way == way_) return servers;
    servers.way_ = way;
    std::swap(servers.source_, servers.target_);
    std::swap(servers.source_cluster_, servers.target_cluster_);
    return servers;
}

Result<void> MoveServers::read_shared_schemas() {
    if (!rows_) return {};
    auto session = source();
    if (!session) return session.error();
    auto rows = *rows_;
    if (!shared_source()) rows.other_schemas.clear();  // those are in the shared database
    auto schemas = pgporter::read_shared_schemas(**session, rows);
    if (!schemas) return schemas.error();
    schemas_ = *std::move(schemas);
    return {};
}

}  // namespace pgporter
