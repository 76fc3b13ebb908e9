#include "admin/mover/replication_stream.hpp"

#include <libpq-fe.h>

#include <algorithm>

namespace pgporter {
namespace {

// Microseconds since 2000-01-01, as the replication protocol counts time.
std::uint64_t protocol_time() {
    constexpr std::int64_t seconds_1970_to_2000 = 946'684'800;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count() -
                                      seconds_1970_to_2000 * 1'000'000);
}

std::uint64_t read_u64(std::string_view bytes) {
    std::uint64_t value = 0;
    for (const char c : bytes.substr(0, 8)) value = (value << 8) | static_cast<unsigned char>(c);
    return value;
}

void append_u64(std::string& bytes, std::uint64_t value) {
    for (int shift = 56; shift >= 0; shift -= 8) bytes += static_cast<char>((value >> shift) & 0xFFU);
}

constexpr std::size_t data_header = 1 + 8 + 8 + 8;       // 'w', start, end of the log, clock
constexpr std::size_t keepalive_length = 1 + 8 + 8 + 1;  // 'k', end of the log, clock, reply wanted

}  // namespace

void ReplicationStream::Free::operator()(char* buffer) const {
    PQfreemem(buffer);
}

Result<ReplicationStream> ReplicationStream::connect(const LibpqParams& params, const Interrupt& interrupt,
                                                     std::chrono::milliseconds connect_timeout) {
    auto session = ServerSession::connect(params, interrupt, {.replication = true, .connect_timeout = connect_timeout});
    if (!session) return session.error();
    return ReplicationStream(std::move(*session));
}

Result<ExportedSlot> ReplicationStream::create_slot(const std::string& name, bool temporary, Deadline deadline) {
    const std::string command = "CREATE_REPLICATION_SLOT " + quote_ident(name) + (temporary ? " TEMPORARY" : "") +
                                " LOGICAL pgoutput EXPORT_SNAPSHOT";
    auto rows = session_->exec(command, deadline);
    if (!rows) return rows.error();
    if (rows->count() != 1) return fail(ErrorKind::internal, "the source didn't describe the new replication slot");
    const auto point = lsn_from(rows->text(0, 1));
    if (!point) return fail(ErrorKind::internal, "the source gave no position for the new replication slot");
    return ExportedSlot{*point, rows->string(0, 2)};
}

Result<void> ReplicationStream::start(const std::string& slot, const std::string& publication) {
    const std::string command = "START_REPLICATION SLOT " + quote_ident(slot) +
                                " LOGICAL 0/0 (\"proto_version\" '1', \"publication_names\" " +
                                quote_literal(quote_ident(publication)) + ", \"messages\" 'true')";
    auto rows = session_->exec(command, after(std::chrono::seconds(30)));
    if (!rows) return rows.error();
    if (PQresultStatus(rows->raw()) != PGRES_COPY_BOTH)
        return fail(ErrorKind::internal, "the source didn't start the stream");
    return {};
}

Result<std::optional<std::string_view>> ReplicationStream::poll_message() {
    bool consumed = false;
    for (;;) {
        char* raw = nullptr;
        const int length = PQgetCopyData(session_->raw(), &raw, 1);
        if (length == 0) {
            if (consumed) return std::optional<std::string_view>{};
            if (PQconsumeInput(session_->raw()) == 0) {
                return fail(ErrorKind::unavailable, "the stream of the source broke", PQerrorMessage(session_->raw()));
            }
            consumed = true;
            continue;
        }
        if (length < 0) {
            const QueryRows end(PQgetResult(session_->raw()));
            if (end.raw() != nullptr && PQresultStatus(end.raw()) == PGRES_FATAL_ERROR) return error_from(end.raw());
            return fail(ErrorKind::unavailable, "the source ended the stream");
        }
        buffer_.reset(raw);
        const std::string_view frame(raw, static_cast<std::size_t>(length));
        if (frame[0] == 'w' && frame.size() >= data_header) {
            received_ = std::max(received_, Lsn{read_u64(frame.substr(1))});
            return std::optional<std::string_view>(frame.substr(data_header));
        }
        if (frame[0] == 'k' && frame.size() == keepalive_length) {
            idle_position_ = std::max(idle_position_, Lsn{read_u64(frame.substr(1))});
            received_ = std::max(received_, idle_position_);
            if (frame.back() != 0) reply_wanted_ = true;
            continue;
        }
        return fail(ErrorKind::internal, "the source sent an unknown replication message");
    }
}

Result<void> ReplicationStream::confirm(Lsn durable, bool ask) {
    std::string status = "r";
    append_u64(status, std::max(received_, durable).value);
    append_u64(status, durable.value);
    append_u64(status, durable.value);
    append_u64(status, protocol_time());
    status += ask ? '\1' : '\0';
    if (PQputCopyData(session_->raw(), status.data(), static_cast<int>(status.size())) != 1) {
        return fail(ErrorKind::unavailable, "the stream of the source broke", PQerrorMessage(session_->raw()));
    }
    reply_wanted_ = false;
    // A connection whose peer doesn't read is noticed by the deadline: keepalives are tiny.
    return session_->flush(after(std::chrono::seconds(10)));
}

}  // namespace pgporter
