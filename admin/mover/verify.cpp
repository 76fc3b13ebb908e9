#include "admin/mover/verify.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "admin/mover/move_names.hpp"
#include "admin/mover/row_recopy.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::seconds barrier_timeout{10};
constexpr std::size_t keys_per_query_max = 5'000;

std::uint64_t count_of(const QueryRows& rows, int row, int column) {
    return static_cast<std::uint64_t>(rows.number(row, column));
}

bool same(const QueryRows& a, int a_row, const QueryRows& b, int b_row, int first_column) {
    for (int column = first_column; column < first_column + 3; ++column) {
        if (a.text(a_row, column) != b.text(b_row, column)) return false;
    }
    return true;
}

Result<void> begin_reading(ServerSession& session, const std::string& snapshot) {
    auto path = operator_search_path(session);
    if (!path) return path.error();
    PP_TRY(session.exec("SET row_security = off; SET search_path = " + *path +
                        "; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + quote_literal(snapshot)));
    return {};
}

}  // namespace

Verifier::Verifier(const MoveServers& servers, const std::vector<SourceTable>& tables, Follower& follower,
                   std::uint32_t jobs)
    : servers_(&servers), tables_(&tables), follower_(&follower), jobs_(std::max<std::uint32_t>(jobs, 1)),
      barriers_made_(static_cast<std::uint32_t>(
          std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
              .count())) {}

Error Verifier::mismatch(const std::vector<Difference>& differences) {
    return fail(ErrorKind::conflict, "source and target differ: " + describe(differences), {},
                "the tenant stays where it is; find out who else writes to the target, or whose triggers change what "
                "is stored");
}

// The stream goes on from it, whatever came between.
Result<Verifier::Barrier> Verifier::make_barrier(ServerSession& source) {
    auto barrier = come_to_barrier(source);
    follower_->leave_barrier();
    return barrier;
}

Result<Verifier::Barrier> Verifier::come_to_barrier(ServerSession& source) {
    Barrier barrier;
    auto keeper = servers_->replication();
    if (!keeper) return keeper.error();
    barrier.source_keeper = std::make_unique<ReplicationStream>(std::move(*keeper));
    PP_TRY(follower_->come_to_rest());
    // Nothing is applied meanwhile: the target must not run past a point that isn't known yet.
    auto slot = barrier.source_keeper->create_slot(barrier_name(servers_->move(), servers_->way(), ++barriers_made_), true,
                                                   after(barrier_timeout));
    if (!slot) {
        auto error = slot.error();
        if (error.kind == ErrorKind::timeout)
            error.message = "a long transaction on the source's server kept a snapshot from being taken";
        return error;
    }
    barrier.source_snapshot = slot->snapshot;
    // Something behind the barrier, or a quiet source would never show that it was reached.
    PP_TRY(source.exec("SELECT pg_logical_emit_message(true, " + quote_literal(servers_->artefact()) +
                       ", 'barrier')"));
    PP_TRY(follower_->follow_to_barrier(slot->consistent_point, std::nullopt));
    if (!follower_->missing().empty()) {
        auto there = servers_->source();
        if (!there) return there.error();
        PP_TRY(begin_reading(**there, barrier.source_snapshot));
        PP_TRY(copy_rows_again(**there, *follower_));
        PP_TRY(follower_->commit(Durability::later, std::nullopt));
        static_cast<void>(follower_->take_missing());
    }

    auto target = servers_->target();
    if (!target) return target.error();
    barrier.target_keeper = std::move(*target);
    auto snapshot =
        barrier.target_keeper->exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot()");
    if (!snapshot) return snapshot.error();
    barrier.target_snapshot = snapshot->string(0, 0);
    barrier.changed = follower_->take_changed();
    follower_->record_changes(true);
    return barrier;
}

Result<Verifier::Pair> Verifier::open_pair(const Barrier& barrier) const {
    Pair pair;
    auto source = servers_->source();
    if (!source) return source.error();
    pair.source = std::move(*source);
    auto target = servers_->target();
    if (!target) return target.error();
    pair.target = std::move(*target);
    PP_TRY(begin_reading(*pair.source, barrier.source_snapshot));
    PP_TRY(begin_reading(*pair.target, barrier.target_snapshot));
    return pair;
}

Result<void> Verifier::compare_all(ServerSession& source) {
    auto barrier = make_barrier(source);
    if (!barrier) return barrier.error();
    differences_.clear();
    PP_TRY(follower_->follow_during([&] { return compare_tables(*barrier); }));
    return settle_differences(source);
}

Result<void> Verifier::compare_changed(ServerSession& source) {
    auto barrier = make_barrier(source);
    if (!barrier) return barrier.error();
    if (barrier->changed.empty()) return {};
    differences_.clear();
    auto compared = follower_->follow_during([&] { return compare_rows(*barrier); });
    if (compared) compared = settle_differences(source);
    // Whatever kept them from being compared, they still have to be before the flip.
    if (!compared) follower_->put_back_changed(barrier->changed);
    return compared;
}

// A TRUNCATE between a snapshot and its reading empties the table for that snapshot too. The stream tells which tables
// that can explain; they count as changed since the barrier and are compared again.
Result<void> Verifier::settle_differences(ServerSession& source) {
    if (differences_.empty()) return {};
    const auto marker = "compared:" + std::to_string(barriers_made_);
    PP_TRY(source.exec("SELECT pg_logical_emit_message(true, " + quote_literal(servers_->artefact()) + ", " +
                       quote_literal(marker) + ")"));
    PP_TRY(follower_->follow_to_marker(marker, std::nullopt));
    std::erase_if(differences_,
                  [&](const Difference& difference) { return follower_->changed().truncated(*difference.table); });
    if (!differences_.empty()) return mismatch(differences_);
    return {};
}

Result<void> Verifier::compare_tables(const Barrier& barrier) {
    std::vector<const SourceTable*> work;
    for (const auto& table : *tables_) {
        const bool is_others = table.into_shared && !table.tenant_column;  // everybody's copy of a global table isn't the tenant's
        if (!table.partitioned && !is_others) work.push_back(&table);
    }
    std::sort(work.begin(), work.end(), [](const auto* a, const auto* b) { return a->bytes > b->bytes; });
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::optional<Error> failure;

    const auto compare = [&](Pair& pair, const SourceTable& table) -> Result<void> {
        PP_TRY(pair.source->send(fingerprint_query(table, Side::source)));
        PP_TRY(pair.target->send(fingerprint_query(table, Side::target)));
        auto source = pair.source->receive();
        if (!source) return source.error();
        auto target = pair.target->receive();
        if (!target) return target.error();
        const std::lock_guard lock(mutex);
        rows_verified_ += count_of(*source, 0, 0);
        row_counts_[&table] = count_of(*source, 0, 0);
        if (!same(*source, 0, *target, 0, 0)) {
            differences_.push_back({&table, count_of(*source, 0, 0), count_of(*target, 0, 0)});
        }
        return {};
    };
    const auto worker = [&]() -> Result<void> {
        auto pair = open_pair(barrier);
        if (!pair) return pair.error();
        for (auto at = next.fetch_add(1); at < work.size(); at = next.fetch_add(1)) PP_TRY(compare(*pair, *work[at]));
        return {};
    };
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < std::min<std::size_t>(jobs_, work.size()); ++i) {
            threads.emplace_back([&] {
                auto done = worker();
                if (done) return;
                const std::lock_guard lock(mutex);
                if (!failure) failure = done.error();
                next.store(work.size());
            });
        }
    }
    if (failure) return *failure;
    return {};
}

Result<void> Verifier::judge_rows(const ChangeQuery& query, const QueryRows& source, const QueryRows& target,
                                  std::vector<Difference>& differences) {
    const auto parts = static_cast<int>(query.tables.size());
    if (source.count() != parts || target.count() != parts) {
        return fail(ErrorKind::internal, "a comparison of changed rows gave an unexpected answer");
    }
    for (int part = 0; part < parts; ++part) {
        const auto& table = *query.tables[static_cast<std::size_t>(part)];
        const auto rows = count_of(source, part, 1);
        rows_verified_ += rows;
        if (query.whole[static_cast<std::size_t>(part)]) row_counts_[&table] = rows;
        if (!same(source, part, target, part, 1)) differences.push_back({&table, rows, count_of(target, part, 1)});
    }
    return {};
}

Result<void> Verifier::compare_rows(const Barrier& barrier) {
    auto pair = open_pair(barrier);
    if (!pair) return pair.error();
    for (const auto& query : change_queries(barrier.changed, keys_per_query_max)) {
        PP_TRY(pair->source->send(query.source_sql));
        PP_TRY(pair->target->send(query.target_sql));
        auto source = pair->source->receive();
        if (!source) return source.error();
        auto target = pair->target->receive();
        if (!target) return target.error();
        PP_TRY(judge_rows(query, *source, *target, differences_));
    }
    return {};
}

std::uint64_t Verifier::remaining_rows() const {
    const auto changed = follower_->changed().of_fenced_tables();
    std::uint64_t rows = changed.keyed_rows();
    for (const auto& [table, changes] : changed.tables()) {
        if (!changes.whole) continue;
        const auto known = row_counts_.find(table);
        rows += known == row_counts_.end() ? table->rows_estimate + 1 : known->second + 1;
    }
    return rows;
}

Result<void> Verifier::prepare_pause() {
    auto source = servers_->source();
    if (!source) return source.error();
    auto target = servers_->target();
    if (!target) return target.error();
    pause_ = {std::move(*source), std::move(*target)};
    auto path = operator_search_path(*pause_.source);
    if (!path) return path.error();
    for (auto* session : {pause_.source.get(), pause_.target.get()}) {
        PP_TRY(session->exec("SET row_security = off; SET jit = off; SET search_path = " + *path));
        // Reads each table's definition into the connection's caches: a plan is made, nothing is read.
        for (const auto& table : *tables_) {
            const auto side = session == pause_.source.get() ? Side::source : Side::target;
            if (!table.partitioned) PP_TRY(session->exec("EXPLAIN " + fingerprint_query(table, side)));
        }
    }
    return {};
}

// The answers may differ, the sides aren't at the same point: what counts is that both have planned and read it once.
Result<void> Verifier::rehearse_pause() {
    for (const auto& query : change_queries(follower_->changed().of_fenced_tables(), ChangedRows::keys_max)) {
        PP_TRY(pause_.source->send(query.source_sql));
        PP_TRY(pause_.target->send(query.target_sql));
        PP_TRY(pause_.source->receive());
        PP_TRY(pause_.target->receive());
    }
    return {};
}

Result<void> Verifier::fetch_missing() {
    return follower_->missing().empty() ? Result<void>{} : copy_rows_again(*pause_.source, *follower_);
}

Result<void> Verifier::ask_source() {
    // Global tables were compared at the last barrier: others go on writing to them, and what they write now stays theirs.
    pause_queries_ = change_queries(follower_->changed().of_fenced_tables(), ChangedRows::keys_max);
    return pause_queries_.empty() ? Result<void>{} : pause_.source->send(pause_queries_.front().source_sql);
}

Result<void> Verifier::ask_target() {
    return pause_queries_.empty() ? Result<void>{} : pause_.target->send(pause_queries_.front().target_sql);
}

Result<void> Verifier::judge(Deadline deadline) {
    std::vector<Difference> differences;
    for (std::size_t i = 0; i < pause_queries_.size(); ++i) {
        if (i > 0) {
            PP_TRY(pause_.source->send(pause_queries_[i].source_sql));
            PP_TRY(pause_.target->send(pause_queries_[i].target_sql));
        }
        auto source = pause_.source->receive(deadline);
        if (!source) return source.error();
        auto target = pause_.target->receive(deadline);
        if (!target) return target.error();
        PP_TRY(judge_rows(pause_queries_[i], *source, *target, differences));
    }
    if (!differences.empty()) return mismatch(differences);
    return {};
}

}  // namespace pgporter
