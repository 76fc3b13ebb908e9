#include "admin/mover/copy_stream.hpp"

#include <libpq-fe.h>

#include <string>
#include <utility>

#include "admin/mover/binary_copy_frame.hpp"
#include "admin/mover/copy_strides.hpp"

namespace pgporter {
namespace {

constexpr std::size_t unsent_bytes_max = 256 * 1'024;  // to the target, before we wait for it
constexpr std::size_t slow_bytes_max = 64 * 1'024;     // of a slowed copy, at a time
constexpr std::size_t batch_bytes_max = 32 * 1'024;    // one message to the target: the protocol doesn't ask for one a row

Result<void> put(CopyPair& pair, std::string& batch) {
    if (batch.empty()) return {};
    if (PQputCopyData(pair.target->raw(), batch.data(), static_cast<int>(batch.size())) != 1) {
        return fail(ErrorKind::unavailable, "the copy to the target broke", PQerrorMessage(pair.target->raw()));
    }
    batch.clear();
    return {};
}

struct Pump {
    CopyPair& pair;
    CopyCounters& counters;
    const std::function<bool()>& given_up;
    BinaryCopyFrame frame;
    CopiedRows copied = {};
    std::string batch = {};
    std::size_t unpaid = 0;
};

[[nodiscard]] StrideLength stride_length(const CopyPair& pair) {
    return pair.paced ? pair.paced->stride_length() : StrideLength::all;
}

// Rows from one connection to the other until the source says it was all.
Result<void> pump_stride(Pump& pump) {
    auto& [pair, counters, given_up, frame, copied, batch, unpaid] = pump;
    std::size_t unsent = 0;
    for (;;) {
        char* raw = nullptr;
        const int length = PQgetCopyData(pair.source->raw(), &raw, 1);
        if (length == 0) {
            // Nothing here now: what was read goes out before we wait, so that the target never waits for a slow
            // source.
            PP_TRY(put(pair, batch));
            PP_TRY(pair.target->flush(std::nullopt));
            unsent = 0;
            if (given_up()) return fail(ErrorKind::cancelled, "another copy failed");
            PP_TRY(pair.source->wait_for(false, std::nullopt));
            if (PQconsumeInput(pair.source->raw()) == 0) {
                return fail(ErrorKind::unavailable, "the connection to the source broke",
                            PQerrorMessage(pair.source->raw()));
            }
            continue;
        }
        if (length == -1) return {};
        if (length < 0)
            return fail(ErrorKind::unavailable, "the copy from the source broke", PQerrorMessage(pair.source->raw()));
        const std::unique_ptr<char, decltype(&PQfreemem)> row(raw, &PQfreemem);
        batch.append(frame.rows_in({raw, static_cast<std::size_t>(length)}));
        if (batch.size() >= batch_bytes_max) PP_TRY(put(pair, batch));
        ++copied.rows;
        copied.bytes += static_cast<std::uint64_t>(length);
        counters.rows.fetch_add(1, std::memory_order_relaxed);
        counters.bytes.fetch_add(static_cast<std::uint64_t>(length), std::memory_order_relaxed);
        counters.bytes_total->inc(static_cast<std::uint64_t>(length));
        unsent += static_cast<std::size_t>(length);
        if (unsent >= unsent_bytes_max) {
            PP_TRY(pair.target->flush(std::nullopt));
            unsent = 0;
        }
        unpaid += static_cast<std::size_t>(length);
        if (unpaid >= (stride_length(pair) == StrideLength::small ? slow_bytes_max : unsent_bytes_max) && pair.paced) {
            PP_TRY(put(pair, batch));
            PP_TRY(pair.target->flush(std::nullopt));
            unsent = 0;
            if (!pair.paced->pay(std::exchange(unpaid, 0), pair.source->interrupt())) return pair.source->interrupt().error();
        }
    }
}

// The key of the last of so many rows, as the part's snapshot sees them. None: there are fewer. By the key's index alone, if all its pages are
// known to be visible; else the rows are looked at, which are to be read next anyway.
Result<std::optional<std::int64_t>> find_last_key(ServerSession& source, const CopyPart& part, std::uint64_t rows) {
    const auto column = quote_ident(part.table->columns[*split_column(*part.table)].name);
    const auto condition = range_condition(*part.table, part.range);
    auto found = source.exec("SELECT " + column + "::bigint FROM ONLY " + part.table->qualified_name() + (condition.empty() ? "" : " WHERE " + condition) +
                             " ORDER BY " + column + " OFFSET " + std::to_string(rows - 1) + " LIMIT 1");
    if (!found) return found.error();
    if (found->empty()) return std::optional<std::int64_t>();
    return std::optional(found->number(0, 0));
}

// All of the part, in one stride or in many.
Result<CopiedRows> pump_part(CopyPair& pair, const CopyPart& part, CopyCounters& counters, const std::function<bool()>& given_up) {
    CopyStrides strides(part);
    Pump pump{pair, counters, given_up, BinaryCopyFrame(part.table->binary_copy())};
    for (;;) {
        const auto length = stride_length(pair);
        std::optional<std::int64_t> last_key;
        if (const auto rows = strides.rows_wanted(length)) {
            const auto found = find_last_key(*pair.source, strides.left(), *rows);
            if (!found) return found.error();
            last_key = *found;
        }
        const auto stride = strides.next(length, last_key);
        if (!stride) break;
        const auto before = pump.copied;
        PP_TRY(pair.source->exec(copy_out_statement(*stride)));
        pump.frame.begin_stride();
        PP_TRY(pump_stride(pump));
        pump.frame.end_stride();
        const auto sent = pair.source->receive();
        if (!sent) return sent.error();
        strides.note(sent->affected(), pump.copied.bytes - before.bytes);
    }
    pump.batch.append(pump.frame.end());
    PP_TRY(put(pair, pump.batch));
    return pump.copied;
}

// PostgreSQL freezes rows only in a table that the same transaction has emptied. It must have been empty before, too: whatever else is in
// it, and whoever was mistaken, nothing is lost here.
Result<void> prepare_to_freeze(ServerSession& target, const SourceTable& table) {
    PP_TRY(target.exec("LOCK TABLE ONLY " + table.qualified_name() + " IN ACCESS EXCLUSIVE MODE"));
    auto found = target.exec("SELECT FROM ONLY " + table.qualified_name() + " LIMIT 1");
    if (!found) return found.error();
    if (!found->empty()) return fail(ErrorKind::conflict, "the target's table isn't empty");
    PP_TRY(target.exec("TRUNCATE ONLY " + table.qualified_name()));
    return {};
}

}  // namespace

Result<CopyPair> open_copy_pair(const MoveServers& servers) {
    CopyPair pair;
    auto source = servers.source();
    if (!source) return source.error();
    pair.source = std::move(*source);
    // Not for a standby: that what was copied isn't lost when this server crashes.
    PP_TRY(pair.source->exec("SET row_security = off; SET synchronous_commit = local"));
    auto target = servers.target();
    if (!target) return target.error();
    pair.target = std::move(*target);
    PP_TRY(pair.target->exec("SET session_replication_role = replica; SET synchronous_commit = off; SET row_security = off"));
    return pair;
}

Result<CopiedRows> copy_part(CopyPair& pair, const CopyPart& part, CopyCounters& counters, const std::function<bool()>& given_up) {
    if (part.frozen) PP_TRY(prepare_to_freeze(*pair.target, *part.table));
    PP_TRY(pair.target->exec(copy_in_statement(part)));
    auto pumped = pump_part(pair, part, counters, given_up);
    if (!pumped) {
        // A target that refused the rows says why in its result; the broken source says it itself.
        static_cast<void>(
            PQputCopyEnd(pair.target->raw(), "the copy was given up"));  // fails when it had refused already
        const auto why = pair.target->receive(after(std::chrono::seconds(2)));
        if (!why && !why.error().sqlstate.empty() && why.error().sqlstate != "57014") return why.error();
        return pumped.error();
    }
    if (PQputCopyEnd(pair.target->raw(), nullptr) != 1) {
        return fail(ErrorKind::unavailable, "the copy to the target broke", PQerrorMessage(pair.target->raw()));
    }
    PP_TRY(pair.target->flush(std::nullopt));
    auto done = pair.target->receive();
    if (!done) return done.error();
    // The binary form has headers and trailers that look like rows on the way; the target's count is the truth.
    const auto stored = done->affected();
    counters.rows.fetch_add(stored - pumped->rows, std::memory_order_relaxed);
    counters.rows_total->inc(stored);
    return CopiedRows{stored, pumped->bytes};
}

}  // namespace pgporter
