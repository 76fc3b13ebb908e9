#include "admin/mover/copy_tables.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace pgporter {
namespace {

constexpr std::uint64_t chunk_pages = 8'192;           // 64 MB of the usual 8 kB pages
constexpr std::size_t unsent_bytes_max = 256 * 1'024;  // to the target, before we wait for it
constexpr std::size_t batch_bytes_max = 32 * 1'024;    // one message to the target: the protocol doesn't ask for one a row

// What the copying threads share. The first failure ends them all.
class CopyWork {
  public:
    CopyWork(std::vector<CopyChunk> chunks, std::size_t workers) : chunks_(std::move(chunks)), running_(workers) {}

    const CopyChunk* next() {
        const std::lock_guard lock(mutex_);
        if (failure_ || taken_ == chunks_.size()) return nullptr;
        return &chunks_[taken_++];
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
    std::vector<CopyChunk> chunks_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t taken_ = 0;
    std::size_t running_;
    std::optional<Error> failure_;
};

struct CopyPair {
    std::unique_ptr<ServerSession> source;
    std::unique_ptr<ServerSession> target;
};

Result<CopyPair> open_pair(const MoveServers& servers, const std::string& snapshot) {
    CopyPair pair;
    auto source = servers.source();
    if (!source) return source.error();
    pair.source = std::move(*source);
    PP_TRY(pair.source->exec("SET row_security = off; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " +
                             quote_literal(snapshot)));
    auto target = servers.target();
    if (!target) return target.error();
    pair.target = std::move(*target);
    PP_TRY(pair.target->exec(
        "SET session_replication_role = replica; SET synchronous_commit = off; SET row_security = off"));
    return pair;
}

Result<void> put(CopyPair& pair, std::string& batch) {
    if (batch.empty()) return {};
    if (PQputCopyData(pair.target->raw(), batch.data(), static_cast<int>(batch.size())) != 1) {
        return fail(ErrorKind::unavailable, "the copy to the target broke", PQerrorMessage(pair.target->raw()));
    }
    batch.clear();
    return {};
}

// Rows from one connection to the other until the source says it was all.
Result<std::uint64_t> pump_rows(CopyPair& pair, CopyCounters& counters, CopyWork& work) {
    std::uint64_t rows = 0;
    std::size_t unsent = 0;
    std::string batch;
    for (;;) {
        char* raw = nullptr;
        const int length = PQgetCopyData(pair.source->raw(), &raw, 1);
        if (length == 0) {
            // Nothing here now: what was read goes out before we wait, so that the target never waits for a slow
            // source.
            PP_TRY(put(pair, batch));
            PP_TRY(pair.target->flush(std::nullopt));
            unsent = 0;
            if (work.failed()) return fail(ErrorKind::cancelled, "another copy failed");
            PP_TRY(pair.source->wait_for(false, std::nullopt));
            if (PQconsumeInput(pair.source->raw()) == 0) {
                return fail(ErrorKind::unavailable, "the connection to the source broke",
                            PQerrorMessage(pair.source->raw()));
            }
            continue;
        }
        if (length == -1) {
            PP_TRY(put(pair, batch));
            return rows;
        }
        if (length < 0)
            return fail(ErrorKind::unavailable, "the copy from the source broke", PQerrorMessage(pair.source->raw()));
        const std::unique_ptr<char, decltype(&PQfreemem)> row(raw, &PQfreemem);
        batch.append(raw, static_cast<std::size_t>(length));
        if (batch.size() >= batch_bytes_max) PP_TRY(put(pair, batch));
        ++rows;
        counters.rows.fetch_add(1, std::memory_order_relaxed);
        counters.bytes.fetch_add(static_cast<std::uint64_t>(length), std::memory_order_relaxed);
        counters.bytes_total->inc(static_cast<std::uint64_t>(length));
        unsent += static_cast<std::size_t>(length);
        if (unsent >= unsent_bytes_max) {
            PP_TRY(pair.target->flush(std::nullopt));
            unsent = 0;
        }
    }
}

// PostgreSQL freezes rows only in a table that the same transaction has emptied. It must have been empty before, too: whatever else is in
// it, and whoever was mistaken, nothing is lost here.
Result<void> begin_frozen(ServerSession& target, const SourceTable& table) {
    PP_TRY(target.exec("BEGIN; LOCK TABLE ONLY " + table.qualified_name() + " IN ACCESS EXCLUSIVE MODE"));
    auto found = target.exec("SELECT FROM ONLY " + table.qualified_name() + " LIMIT 1");
    if (!found) return found.error();
    if (!found->empty()) return fail(ErrorKind::conflict, "the target's table isn't empty");
    PP_TRY(target.exec("TRUNCATE ONLY " + table.qualified_name()));
    return {};
}

Result<void> copy_chunk(CopyPair& pair, const CopyChunk& chunk, CopyCounters& counters, CopyWork& work) {
    if (chunk.frozen) PP_TRY(begin_frozen(*pair.target, *chunk.table));
    PP_TRY(pair.target->exec(copy_in_statement(chunk)));
    PP_TRY(pair.source->exec(copy_out_statement(chunk)));
    auto pumped = pump_rows(pair, counters, work);
    if (!pumped) {
        // A target that refused the rows says why in its result; the broken source says it itself.
        static_cast<void>(
            PQputCopyEnd(pair.target->raw(), "the copy was given up"));  // fails when it had refused already
        const auto why = pair.target->receive(after(std::chrono::seconds(2)));
        if (!why && !why.error().sqlstate.empty() && why.error().sqlstate != "57014") return why.error();
        return pumped.error();
    }
    PP_TRY(pair.source->receive());
    if (PQputCopyEnd(pair.target->raw(), nullptr) != 1) {
        return fail(ErrorKind::unavailable, "the copy to the target broke", PQerrorMessage(pair.target->raw()));
    }
    PP_TRY(pair.target->flush(std::nullopt));
    auto done = pair.target->receive();
    if (!done) return done.error();
    if (chunk.frozen) PP_TRY(pair.target->exec("COMMIT"));
    // The binary form has a header and a trailer that look like rows on the way; the target's count is the truth.
    const auto stored = done->affected();
    counters.rows.fetch_add(stored - *pumped, std::memory_order_relaxed);
    counters.rows_total->inc(stored);
    return {};
}

Result<void> run_worker(CopyPair& pair, CopyCounters& counters, CopyWork& work) {
    while (const auto* chunk = work.next()) {
        auto copied = copy_chunk(pair, *chunk, counters, work);
        if (copied) continue;
        auto error = copied.error();
        if (error.kind != ErrorKind::cancelled)
            error.message = "copying " + chunk->table->plain_name() + ": " + error.message;
        return error;
    }
    return {};
}

}  // namespace

std::vector<CopyChunk> plan_copy(const std::vector<SourceTable>& tables, TargetTables target, std::uint64_t chunk_pages_max, std::size_t jobs) {
    std::uint64_t all_pages = 0;
    for (const auto& table : tables) all_pages += table.pages;
    const auto whole_pages_max = std::max<std::uint64_t>(chunk_pages_max, all_pages / std::max<std::size_t>(jobs, 1) * 3 / 2);
    std::vector<CopyChunk> chunks;
    for (const auto& table : tables) {
        if (table.partitioned || table.columns.empty()) continue;
        // A tenant's rows in a large shared table are found by the index; piece by piece would read all of it.
        if (table.tenant_index || table.pages <= whole_pages_max) {
            chunks.push_back({&table, 0, 0, target == TargetTables::own});
            continue;
        }
        std::uint64_t first = 0;
        for (; table.pages - first > chunk_pages_max; first += chunk_pages_max)
            chunks.push_back({&table, first, first + chunk_pages_max});
        chunks.push_back({&table, first, 0});
    }
    const auto size = [](const CopyChunk& chunk) {
        return chunk.end_page == 0 ? chunk.table->pages - chunk.first_page : chunk.end_page - chunk.first_page;
    };
    std::stable_sort(chunks.begin(), chunks.end(),
                     [&](const CopyChunk& a, const CopyChunk& b) { return size(a) > size(b); });
    return chunks;
}

std::string copy_out_statement(const CopyChunk& chunk) {
    std::string columns;
    for (const auto& column : chunk.table->columns) columns += (columns.empty() ? "" : ", ") + quote_ident(column.name);
    std::string where = chunk.table->where();
    if (chunk.first_page > 0)
        where += (where.empty() ? " WHERE" : " AND") + std::string(" ctid >= '(") + std::to_string(chunk.first_page) + ",0)'";
    if (chunk.end_page > 0) {
        where +=
            (where.empty() ? " WHERE" : " AND") + std::string(" ctid < '(") + std::to_string(chunk.end_page) + ",0)'";
    }
    const std::string format = chunk.table->binary_copy() ? " (FORMAT binary)" : "";
    // Of a table as it is, without a query: the server spends less on each row.
    if (where.empty()) return "COPY " + chunk.table->qualified_name() + " (" + columns + ") TO STDOUT" + format;
    return "COPY (SELECT " + columns + " FROM ONLY " + chunk.table->qualified_name() + " AS t" + where + ") TO STDOUT" + format;
}

std::string copy_in_statement(const CopyChunk& chunk) {
    std::string columns;
    for (const auto& column : chunk.table->columns) columns += (columns.empty() ? "" : ", ") + quote_ident(column.name);
    const char* options = chunk.table->binary_copy() ? (chunk.frozen ? " (FORMAT binary, FREEZE)" : " (FORMAT binary)")
                                                     : (chunk.frozen ? " (FREEZE)" : "");
    return "COPY " + chunk.table->qualified_name() + " (" + columns + ") FROM STDIN" + options;
}

Result<void> copy_tables(const MoveServers& servers, const std::vector<SourceTable>& tables,
                         TargetTables target, const std::string& snapshot, std::uint32_t jobs, CopyCounters& counters,
                         const std::function<void()>& tick) {
    auto chunks = plan_copy(tables, target, chunk_pages, jobs);
    const auto workers =
        std::min<std::size_t>(std::max<std::uint32_t>(jobs, 1), std::max<std::size_t>(chunks.size(), 1));
    // All pairs import the snapshot before any copies: it ends with the connection that exported it.
    std::vector<CopyPair> pairs;
    for (std::size_t i = 0; i < workers; ++i) {
        auto pair = open_pair(servers, snapshot);
        if (!pair) return pair.error();
        pairs.push_back(std::move(*pair));
    }
    CopyWork work(std::move(chunks), workers);
    {
        std::vector<std::jthread> threads;
        threads.reserve(workers);
        for (auto& pair : pairs) {
            threads.emplace_back([&pair, &counters, &work] { work.end(run_worker(pair, counters, work)); });
        }
        while (!work.wait_for_end(std::chrono::milliseconds(200))) tick();
    }
    tick();
    return work.result();
}

}  // namespace pgporter
