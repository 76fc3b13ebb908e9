#include "admin/mover/copy_tables.hpp"

#include <poll.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <thread>
#include <utility>

#include "admin/mover/piece_journal.hpp"

namespace pgporter {
namespace {

// A piece that is being copied; of one that is stored in parts several threads have a part each, and one connection holds the snapshot.
struct OpenPiece {
    const CopyPiece* piece = nullptr;
    std::mutex mutex;  // of what follows
    std::unique_ptr<ServerSession> keeper;
    std::unique_ptr<HeldSnapshots::Hold> held;
    std::string exported;  // the name by which others take the snapshot
    std::string snapshot;  // as RowSnapshot reads it
    std::size_t parts_left = 0;
    CopiedRows copied;  // of the parts that are stored
};

struct CopyItem {
    OpenPiece* open = nullptr;
    std::vector<CopyPart> parts;  // several: of several tables, in one transaction
};

// What the copying threads share. The first failure ends them all.
class CopyWork {
  public:
    CopyWork(const CopyPlan& plan, std::size_t jobs) : jobs_(jobs) {
        for (const auto& piece : plan.pieces) {
            auto& open = open_.emplace_back(std::make_unique<OpenPiece>());
            open->piece = &piece;
            auto parts = parts_of(piece, plan.part_pages_max, plan.is_journaled());
            // In one snapshot nothing ties the tables of a piece together.
            if (!plan.is_journaled() || piece.in_parts) {
                open->parts_left = parts.size();
                for (auto& part : parts) items_.push_back({open.get(), {part}});
            } else {
                items_.push_back({open.get(), std::move(parts)});
            }
        }
        running_ = workers();
    }

    [[nodiscard]] std::size_t workers() const { return std::min(jobs_, std::max<std::size_t>(items_.size(), 1)); }
    const CopyItem* next() {
        const std::lock_guard lock(mutex_);
        if (failure_ || taken_ == items_.size()) return nullptr;
        return &items_[taken_++];
    }
    void end(Result<void> result) {
        const std::lock_guard lock(mutex_);
        if (!result && !failure_) failure_ = result.error();
        --running_;
        changed_.notify_all();
    }
    [[nodiscard]] bool failed() {
        const std::lock_guard lock(mutex_);
        return failure_.has_value();
    }
    bool wait_for_end(std::chrono::milliseconds duration) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, duration, [this] { return running_ == 0; });
    }
    [[nodiscard]] Result<void> result() {
        const std::lock_guard lock(mutex_);
        if (failure_) return *failure_;
        return {};
    }

  private:
    std::vector<std::unique_ptr<OpenPiece>> open_;
    std::vector<CopyItem> items_;
    const std::size_t jobs_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t taken_ = 0;
    std::size_t running_ = 0;
    std::optional<Error> failure_;
};

class CopyWorker {
  public:
    CopyWorker(const MoveServers& servers, const CopyPlan& plan, CopyCounters& counters, HeldSnapshots& held, CopyWork& work)
        : servers_(servers), plan_(plan), counters_(counters), held_(held), work_(work) {}

    [[nodiscard]] Result<void> connect();
    [[nodiscard]] Result<void> run();

  private:
    [[nodiscard]] Result<void> copy(const CopyItem& item);
    [[nodiscard]] Result<void> copy_whole(OpenPiece& open, const std::vector<CopyPart>& parts);
    [[nodiscard]] Result<void> copy_shared(OpenPiece& open, const CopyPart& part);
    [[nodiscard]] Result<void> open_shared(OpenPiece& open);
    [[nodiscard]] Result<std::pair<std::string, std::string>> take_snapshot(ServerSession& session, const CopyPiece& piece, bool exports);
    [[nodiscard]] Result<CopiedRows> pump(const CopyPart& part);
    [[nodiscard]] Result<void> flush_source();

    const MoveServers& servers_;
    const CopyPlan& plan_;
    CopyCounters& counters_;
    HeldSnapshots& held_;
    CopyWork& work_;
    CopyPair pair_;
};

Result<void> CopyWorker::connect() {
    auto pair = open_copy_pair(servers_);
    if (!pair) return pair.error();
    pair_ = std::move(*pair);
    if (plan_.is_journaled()) return {};
    PP_TRY(pair_.source->exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + quote_literal(plan_.shared_snapshot)));
    return {};
}

// Whoever ends lets another go on, that the pace keeps waiting.
struct LeavesPace {
    CopyPair& pair;
    ~LeavesPace() { pair.paced.reset(); }
};

Result<void> CopyWorker::run() {
    if (counters_.pacer != nullptr) pair_.paced = std::make_unique<CopyPacer::Worker>(*counters_.pacer);
    const LeavesPace leaves{pair_};
    while (const auto* item = work_.next()) PP_TRY(copy(*item));
    return {};
}

Result<void> CopyWorker::copy(const CopyItem& item) {
    if (!plan_.is_journaled()) {
        const auto copied = pump(item.parts.front());
        return copied ? Result<void>{} : Result<void>{copied.error()};
    }
    if (item.open->piece->in_parts) return copy_shared(*item.open, item.parts.front());
    return copy_whole(*item.open, item.parts);
}

Result<CopiedRows> CopyWorker::pump(const CopyPart& part) {
    auto copied = copy_part(pair_, part, counters_, [this] { return work_.failed(); });
    if (copied) return copied;
    auto error = copied.error();
    if (error.kind != ErrorKind::cancelled) error.message = "copying " + part.table->plain_name() + ": " + error.message;
    return error;
}

// Locked before it is taken. It must see whatever the slot's did, of which the stream tells nothing: a transaction that is still waiting to
// become visible, for a standby's answer say, is waited for.
Result<std::pair<std::string, std::string>> CopyWorker::take_snapshot(ServerSession& session, const CopyPiece& piece, bool exports) {
    const auto deadline = after(servers_.config().mover.slot_ms_max);
    for (;;) {
        auto taken = session.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + lock_statement(piece) +
                                  "; SELECT pg_catalog.pg_current_snapshot()::text, " + (exports ? "pg_catalog.pg_export_snapshot()" : "''"));
        if (!taken) return taken.error();
        const auto snapshot = RowSnapshot::parse(taken->text(0, 0));
        if (!snapshot) return fail(ErrorKind::internal, "the source's snapshot can't be read");
        const auto lacking = snapshot->lacks_of(*plan_.slot_snapshot);
        if (!lacking) return std::pair(taken->string(0, 0), taken->string(0, 1));
        PP_TRY(session.exec("ROLLBACK"));
        if (passed(deadline)) {
            return fail(ErrorKind::timeout,
                        "transaction " + std::to_string(*lacking) + " of the source has committed, but isn't visible there yet", {},
                        "see whether the source's synchronous standby answers");
        }
        const auto ends = servers_.interrupt().fds();
        std::array<pollfd, 2> entries{ends[0], ends[1]};
        ::poll(entries.data(), entries.size(), 20);
        if (servers_.interrupt().heard()) return servers_.interrupt().error();
    }
}

// What was copied is kept by the source, too, should it crash: a commit flushes all that was logged before it.
Result<void> CopyWorker::flush_source() {
    PP_TRY(pair_.source->exec("COMMIT; SELECT pg_catalog.pg_logical_emit_message(true, 'pgporter', '')"));
    return {};
}

Result<void> CopyWorker::copy_whole(OpenPiece& open, const std::vector<CopyPart>& parts) {
    const HeldSnapshots::Hold hold(held_);
    auto snapshot = take_snapshot(*pair_.source, *open.piece, false);
    if (!snapshot) return snapshot.error();
    // By the key's index: reading all of the table once for each of its ranges would never end.
    if (!open.piece->range.is_all()) PP_TRY(pair_.source->exec("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"));
    PP_TRY(pair_.target->exec("BEGIN"));
    PP_TRY(stay_latest(*pair_.target, servers_, plan_.attempt));
    CopiedRows copied;
    for (const auto& part : parts) {
        const auto more = pump(part);
        if (!more) return more.error();
        copied.rows += more->rows;
        copied.bytes += more->bytes;
    }
    PP_TRY(flush_source());
    PP_TRY(note_piece(*pair_.target, servers_, plan_.attempt, open.piece->number, snapshot->first, copied));
    PP_TRY(pair_.target->exec("COMMIT"));
    return {};
}

Result<void> CopyWorker::open_shared(OpenPiece& open) {
    const std::lock_guard lock(open.mutex);
    if (open.keeper) return {};
    auto keeper = servers_.source();
    if (!keeper) return keeper.error();
    PP_TRY((*keeper)->exec("SET row_security = off"));
    auto hold = std::make_unique<HeldSnapshots::Hold>(held_);
    auto snapshot = take_snapshot(**keeper, *open.piece, true);
    if (!snapshot) return snapshot.error();
    open.keeper = std::move(*keeper);
    open.held = std::move(hold);
    open.snapshot = std::move(snapshot->first);
    open.exported = std::move(snapshot->second);
    return {};
}

Result<void> CopyWorker::copy_shared(OpenPiece& open, const CopyPart& part) {
    PP_TRY(open_shared(open));
    PP_TRY(pair_.source->exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + quote_literal(open.exported)));
    PP_TRY(pair_.target->exec("BEGIN"));
    PP_TRY(stay_latest(*pair_.target, servers_, plan_.attempt));
    const auto copied = pump(part);
    if (!copied) return copied.error();
    PP_TRY(pair_.source->exec("COMMIT"));
    PP_TRY(pair_.target->exec("COMMIT"));
    const std::lock_guard lock(open.mutex);
    open.copied.rows += copied->rows;
    open.copied.bytes += copied->bytes;
    if (--open.parts_left > 0) return {};
    open.keeper.reset();
    open.held.reset();
    PP_TRY(flush_source());
    PP_TRY(pair_.target->exec("BEGIN"));
    PP_TRY(stay_latest(*pair_.target, servers_, plan_.attempt));
    PP_TRY(note_piece(*pair_.target, servers_, plan_.attempt, open.piece->number, open.snapshot, open.copied));
    PP_TRY(pair_.target->exec("COMMIT"));
    return {};
}

// What an earlier attempt has stored of pieces that aren't whole.
Result<void> remove_leftovers(const MoveServers& servers, const CopyPlan& plan) {
    std::string tables;
    for (const auto& piece : plan.pieces) {
        if (piece.in_parts) tables += (tables.empty() ? "ONLY " : ", ONLY ") + piece.tables.front()->qualified_name();
    }
    if (plan.attempt <= 1 || tables.empty()) return {};
    auto target = servers.target();
    if (!target) return target.error();
    PP_TRY((*target)->exec("BEGIN"));
    PP_TRY(stay_latest(**target, servers, plan.attempt));
    PP_TRY((*target)->exec("TRUNCATE " + tables + "; COMMIT"));
    return {};
}

}  // namespace

HeldSnapshots::Hold::Hold(HeldSnapshots& all) : all_(all) {
    const std::lock_guard lock(all_.mutex_);
    since_ = all_.since_.insert(std::chrono::steady_clock::now());
}

HeldSnapshots::Hold::~Hold() {
    const std::lock_guard lock(all_.mutex_);
    all_.since_.erase(since_);
}

std::optional<HeldSnapshots::Time> HeldSnapshots::oldest() const {
    const std::lock_guard lock(mutex_);
    if (since_.empty()) return std::nullopt;
    return *since_.begin();
}

Result<void> copy_tables(const MoveServers& servers, const CopyPlan& plan, CopyCounters& counters, HeldSnapshots& held,
                         const std::function<void()>& tick) {
    if (plan.pieces.empty()) return {};
    if (plan.is_journaled()) PP_TRY(remove_leftovers(servers, plan));
    CopyWork work(plan, std::max<std::uint32_t>(plan.jobs, 1));
    // All connect before any copies: an imported snapshot ends with the connection that exported it.
    std::vector<CopyWorker> workers;
    workers.reserve(work.workers());
    for (std::size_t i = 0; i < work.workers(); ++i) PP_TRY(workers.emplace_back(servers, plan, counters, held, work).connect());
    {
        std::vector<std::jthread> threads;
        threads.reserve(workers.size());
        for (auto& worker : workers) threads.emplace_back([&worker, &work] { work.end(worker.run()); });
        while (!work.wait_for_end(std::chrono::milliseconds(200))) tick();
    }
    tick();
    return work.result();
}

}  // namespace pgporter
