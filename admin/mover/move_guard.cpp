#include "admin/mover/move_guard.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds look_every{1'000};
constexpr std::chrono::seconds answer_within{30};  // sizes wait for whoever has locked a table
constexpr std::uint64_t mib = 1'048'576;

// Of standbys: others' positions are shown to pg_monitor and superusers only; else there are none to be seen.
constexpr const char* standby_lag =
    "(SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint FROM pg_stat_replication AS r WHERE replay_lsn IS NOT "
    "NULL AND NOT EXISTS (SELECT FROM pg_replication_slots AS l WHERE l.active_pid = r.pid AND l.slot_type = 'logical'))";

std::uint64_t bytes_of(const QueryRows& rows, int column) {
    return rows.is_null(0, column) ? 0 : static_cast<std::uint64_t>(std::max<std::int64_t>(rows.number(0, column), 0));
}

}  // namespace

MoveGuard::MoveGuard(const MoveServers& servers, Interrupt& interrupt, const HeldSnapshots& held, metrics::Registry& registry, Reporter reporter)
    : servers_(&servers), interrupt_(&interrupt), held_(&held), registry_(&registry), reporter_(std::move(reporter)),
      wal_gauge_(&registry.gauge("pgporter_move_source_wal_bytes", "WAL that sources keep for the moves that this instance runs.")),
      behind_gauge_(&registry.gauge("pgporter_moves_falling_behind",
                                    "Moves of this instance whose tenant is written to faster than the changes can be applied.")),
      trend_(servers.config().mover.catchup_window_ms) {
    thread_ = std::thread([this] { run(); });
}

MoveGuard::~MoveGuard() {
    own_.stop();
    if (thread_.joinable()) thread_.join();
    tell({});
}

std::string MoveGuard::finding() const {
    const std::lock_guard lock(mutex_);
    return finding_;
}

void MoveGuard::run() {
    do {
        const auto looked = look();
        const bool was_blind = std::exchange(blind_, !looked);
        if (looked || own_.stopped()) continue;
        if (!was_blind) {
            log::warning("move_not_guarded", {{"move", std::to_string(servers_->move().value)}, {"reason", looked.error().message}});
        }
        source_.reset();
        target_.reset();
    } while (finding().empty() && own_.sleep(look_every));
}

Result<void> MoveGuard::look() {
    // What needs no server first: it is bounded also while one is away.
    if (auto why = look_at_snapshot(); !why.empty()) {
        end_move("snapshot_age", std::move(why));
        return {};
    }
    const ServerSession::Options options{.connect_timeout = servers_->config().mover.connect_timeout_ms};
    GuardReport report;
    if (!source_ || !source_->alive()) {
        auto opened = ServerSession::connect(servers_->source_params(), own_, options);
        if (!opened) return opened.error();
        source_ = std::move(*opened);
    }
    PP_TRY(look_at_slot(report));
    if (!finding().empty()) return {};
    if (!target_ || !target_->alive()) {
        auto opened = ServerSession::connect(servers_->target_params(), own_, options);
        if (!opened) return opened.error();
        target_ = std::move(*opened);
    }
    // The size of a database is read file by file.
    const bool is_its_turn = looks_++ % 2 == 0;
    if (is_its_turn) PP_TRY(look_at_target());
    report.standby_lag_bytes = std::max(report.standby_lag_bytes, target_standby_lag_bytes_);
    tell(report);
    return {};
}

Result<void> MoveGuard::look_at_slot(GuardReport& report) {
    auto rows = source_->exec(std::string("SELECT wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, "
                                          "pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint, ") +
                                  standby_lag + " FROM pg_replication_slots WHERE slot_name = $1",
                              {servers_->artefact()}, after(answer_within));
    if (!rows) return rows.error();
    if (rows->empty() || rows->text(0, 0) == "lost") {
        end_move("slot_lost", rows->empty() ? "the source server no longer has the replication slot " + servers_->artefact()
                                            : "the source server has dropped the log that the move still needed (max_slot_wal_keep_size); "
                                              "raise that, or move the tenant when less is written");
        return {};
    }
    report.source_wal_bytes = bytes_of(*rows, 1);
    report.lag_bytes = bytes_of(*rows, 2);
    report.standby_lag_bytes = bytes_of(*rows, 3);
    const auto bound = std::uint64_t{servers_->config().mover.source_wal_mib_max};
    if (report.source_wal_bytes > bound * mib) {
        end_move("source_wal", "the source server had to keep more than mover.source_wal_mib_max (" + std::to_string(bound) +
                                   " MiB) of its log for the move; raise the bound if its disk has room, or move the tenant when less is written");
        return {};
    }
    if (catching_up_.load()) {
        trend_.add(std::chrono::steady_clock::now(), report.lag_bytes);
        report.falling_behind = trend_.is_falling_behind();
    } else {
        trend_.forget();
    }
    return {};
}

Result<void> MoveGuard::look_at_target() {
    const bool shared = servers_->target_placement().kind == PlacementKind::schema;
    const std::string of_schema =
        "(SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'm') AND n.nspname = " + quote_literal(servers_->schema()) + ")";
    const std::string size = shared ? of_schema : "pg_database_size(current_database())";
    auto rows = target_->exec("SELECT " + size + ", " + standby_lag, {}, after(answer_within));
    if (!rows) return rows.error();
    target_standby_lag_bytes_ = bytes_of(*rows, 1);
    const auto bound = std::uint64_t{servers_->config().mover.target_mib_max};
    if (bound == 0 || bytes_of(*rows, 0) <= bound * mib) return {};
    end_move("target_size", "what the tenant takes on the target is more than mover.target_mib_max (" + std::to_string(bound) +
                                " MiB); raise the bound if the target's disk has room");
    return {};
}

std::string MoveGuard::look_at_snapshot() const {
    const auto bound = servers_->config().mover.snapshot_age_ms_max;
    const auto oldest = held_->oldest();
    if (!oldest || std::chrono::steady_clock::now() - *oldest < bound) return {};
    return "the copy held a snapshot for longer than mover.snapshot_age_ms_max (" + std::to_string(bound.count()) +
           " ms), and so long the source server can't clean up what its tenants delete; raise the bound, copy with more jobs "
           "(mover.copy_jobs), or when the servers are less busy";
}

void MoveGuard::end_move(const char* guard, std::string why) {
    log::warning("move_guard_hit", {{"move", std::to_string(servers_->move().value)}, {"guard", guard}, {"reason", why}});
    {
        const std::lock_guard lock(mutex_);
        finding_ = std::move(why);
    }
    interrupt_->cancel();
    registry_->counter("pgporter_move_guards_hit_total", "Moves that a guard has ended, by what it guards.", {{"guard", guard}}).inc();
}

void MoveGuard::tell(const GuardReport& report) {
    wal_gauge_->add(static_cast<std::int64_t>(report.source_wal_bytes) - static_cast<std::int64_t>(told_.source_wal_bytes));
    behind_gauge_->add((report.falling_behind ? 1 : 0) - (told_.falling_behind ? 1 : 0));
    told_ = report;
    if (!own_.stopped()) reporter_(report);
}

}  // namespace pgporter
