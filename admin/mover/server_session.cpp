#include "admin/mover/server_session.hpp"

#include <libpq-fe.h>

#include <charconv>

namespace pgporter {
namespace {

ErrorKind kind_of(std::string_view sqlstate) {
    if (sqlstate == "55P03" || sqlstate == "57014") return ErrorKind::timeout;
    if (sqlstate == "42501" || sqlstate == "28P01" || sqlstate == "28000") return ErrorKind::forbidden;
    if (sqlstate.starts_with("08") || sqlstate.starts_with("57P") || sqlstate.starts_with("53"))
        return ErrorKind::unavailable;
    if (sqlstate == "3D000" || sqlstate == "3F000") return ErrorKind::not_found;
    if (sqlstate == "40P01" || sqlstate == "40001" || sqlstate == "55006") return ErrorKind::conflict;
    return ErrorKind::internal;
}

// libpq's messages end with a line feed and may have several lines; the first says what happened.
std::string first_line(const char* text) {
    const std::string_view all = text == nullptr ? "" : text;
    return std::string(all.substr(0, all.find('\n')));
}

std::string field(const PGresult* result, int code) {
    const char* text = PQresultErrorField(result, code);
    return text == nullptr ? std::string() : std::string(text);
}

}  // namespace

QueryRows::~QueryRows() {
    PQclear(result_);
}
int QueryRows::count() const {
    return PQntuples(result_);
}
bool QueryRows::is_null(int row, int column) const {
    return PQgetisnull(result_, row, column) == 1;
}
std::string_view QueryRows::text(int row, int column) const {
    return {PQgetvalue(result_, row, column), static_cast<std::size_t>(PQgetlength(result_, row, column))};
}

std::int64_t QueryRows::number(int row, int column) const {
    const auto digits = text(row, column);
    std::int64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
}

std::uint64_t QueryRows::affected() const {
    const std::string_view digits = result_ != nullptr ? PQcmdTuples(result_) : "";
    std::uint64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
}

Error error_from(const PGresult* result) {
    auto sqlstate = field(result, PG_DIAG_SQLSTATE);
    auto message = field(result, PG_DIAG_MESSAGE_PRIMARY);
    if (message.empty()) message = first_line(PQresultErrorMessage(result));
    if (message.empty())
        message = std::string("unexpected answer of the server: ") + PQresStatus(PQresultStatus(result));
    auto detail = field(result, PG_DIAG_MESSAGE_DETAIL);
    if (const auto context = field(result, PG_DIAG_CONTEXT); !context.empty()) {
        detail += (detail.empty() ? "" : "; ") + context;
    }
    // Without a SQLSTATE it is libpq's own error: the connection is gone.
    const auto kind = sqlstate.empty() ? ErrorKind::unavailable : kind_of(sqlstate);
    return fail(kind, std::move(message), std::move(detail), field(result, PG_DIAG_MESSAGE_HINT), std::move(sqlstate));
}

void ServerSession::Finish::operator()(PGconn* connection) const {
    PQfinish(connection);
}
int ServerSession::socket() const {
    return PQsocket(raw());
}
int ServerSession::server_version() const {
    return PQserverVersion(raw());
}
int ServerSession::backend_pid() const {
    return PQbackendPID(raw());
}
bool ServerSession::alive() const {
    return PQstatus(raw()) == CONNECTION_OK;
}

Result<std::unique_ptr<ServerSession>> ServerSession::connect(const LibpqParams& params, const Interrupt& interrupt,
                                                              const Options& options) {
    // A peer that vanishes without a word is noticed within seconds; every wait relies on that.
    static const std::vector<std::pair<std::string, std::string>> liveness{{"keepalives_idle", "10"},
                                                                           {"keepalives_interval", "3"},
                                                                           {"keepalives_count", "3"},
                                                                           {"tcp_user_timeout", "15000"}};
    std::vector<const char*> names;
    std::vector<const char*> values;
    const auto add = [&](const char* name, const char* value) {
        names.push_back(name);
        values.push_back(value);
    };
    for (const auto& [name, value] : liveness) add(name.c_str(), value.c_str());
    for (const auto& [name, value] : params.keywords) add(name.c_str(), value.c_str());
    const std::string password(params.password.reveal());
    if (!password.empty()) add("password", password.c_str());
    if (options.replication) add("replication", "database");
    names.push_back(nullptr);
    values.push_back(nullptr);

    const auto deadline = after(options.connect_timeout);
    PGconn* raw = PQconnectStartParams(names.data(), values.data(), 0);
    if (raw == nullptr) return fail(ErrorKind::internal, "out of memory");
    std::unique_ptr<ServerSession> session(new ServerSession(raw, interrupt));
    PP_TRY(session->finish_connecting(deadline));

    const auto encoding = session->parameter("server_encoding");
    auto settings =
        "SET client_encoding = " + quote_literal(encoding) +
        "; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 3"
        "; SET bytea_output = 'hex'; SET xmloption = 'content'; SET statement_timeout = 0; SET lock_timeout = 0"
        "; SET idle_in_transaction_session_timeout = 0; SET search_path = pg_catalog";
    // PostgreSQL 14 and later.
    if (session->server_version() >= 140000) settings += "; SET idle_session_timeout = 0";
    PP_TRY(session->exec(settings, deadline));
    return session;
}

Result<void> ServerSession::finish_connecting(const Deadline& deadline) {
    if (PQstatus(raw()) == CONNECTION_BAD) return connection_error();
    bool writable = true;
    for (;;) {
        PP_TRY(wait_for(writable, deadline));
        switch (PQconnectPoll(raw())) {
            case PGRES_POLLING_OK:
                if (PQsetnonblocking(raw(), 1) != 0) return connection_error();
                // libpq would print them on our stderr.
                PQsetNoticeReceiver(
                    raw(), [](void*, const PGresult*) {}, nullptr);
                return {};
            case PGRES_POLLING_FAILED:
                return connection_error();
            case PGRES_POLLING_READING:
                writable = false;
                break;
            case PGRES_POLLING_WRITING:
            case PGRES_POLLING_ACTIVE:
                writable = true;
                break;
        }
    }
}

Error ServerSession::connection_error() const {
    auto message = first_line(PQerrorMessage(raw()));
    if (message.empty()) message = "the server closed the connection";
    return fail(ErrorKind::unavailable, std::move(message));
}

std::string ServerSession::parameter(const char* name) const {
    const char* value = PQparameterStatus(raw(), name);
    return value == nullptr ? std::string() : std::string(value);
}

Result<void> ServerSession::wait_for(bool writable, const Deadline& deadline) {
    const int socket = PQsocket(raw());
    if (socket < 0) return connection_error();
    for (;;) {
        if (interrupt_->heard()) return interrupt_->error();
        const auto ends = interrupt_->fds();
        std::array<pollfd, 3> entries{pollfd{socket, static_cast<short>(writable ? POLLOUT : POLLIN), 0}, ends[0],
                                      ends[1]};
        const int ready = ::poll(entries.data(), entries.size(), poll_ms(deadline));
        if (entries[0].revents != 0 && ready > 0) return {};
        if (ready == 0 && passed(deadline)) return fail(ErrorKind::timeout, "the server didn't answer in time");
    }
}

Result<void> ServerSession::flush(const Deadline& deadline) {
    for (;;) {
        const int left = PQflush(raw());
        if (left < 0) return connection_error();
        if (left == 0) return {};
        if (interrupt_->heard()) return interrupt_->error();
        const auto ends = interrupt_->fds();
        std::array<pollfd, 3> entries{pollfd{PQsocket(raw()), POLLIN | POLLOUT, 0}, ends[0], ends[1]};
        const int ready = ::poll(entries.data(), entries.size(), poll_ms(deadline));
        if (ready == 0 && passed(deadline))
            return fail(ErrorKind::timeout, "the server didn't take what was sent in time");
        if ((entries[0].revents & POLLIN) != 0 && PQconsumeInput(raw()) == 0) return connection_error();
    }
}

Result<void> ServerSession::send(const std::string& sql) {
    if (PQsendQuery(raw(), sql.c_str()) == 0) return connection_error();
    return flush(std::nullopt);
}

Result<void> ServerSession::send(const std::string& sql, const std::vector<SqlValue>& values) {
    std::vector<const char*> texts;
    texts.reserve(values.size());
    for (const auto& value : values) texts.push_back(value ? value->c_str() : nullptr);
    if (PQsendQueryParams(raw(), sql.c_str(), static_cast<int>(texts.size()), nullptr, texts.data(), nullptr, nullptr,
                          0) == 0) {
        return connection_error();
    }
    return flush(std::nullopt);
}

Result<PGresult*> ServerSession::next_result(const Deadline& deadline) {
    while (PQisBusy(raw()) == 1) {
        PP_TRY(wait_for(false, deadline));
        if (PQconsumeInput(raw()) == 0) return connection_error();
    }
    return PQgetResult(raw());
}

Result<QueryRows> ServerSession::receive(Deadline deadline) {
    std::optional<Error> failure;
    QueryRows last;
    for (;;) {
        auto next = next_result(deadline);
        if (!next) {
            abandon();
            return next.error();
        }
        if (*next == nullptr) break;
        QueryRows rows(*next);
        switch (PQresultStatus(rows.raw())) {
            case PGRES_COMMAND_OK:
            case PGRES_TUPLES_OK:
            case PGRES_EMPTY_QUERY:
                last = std::move(rows);
                break;
            case PGRES_COPY_IN:
            case PGRES_COPY_OUT:
            case PGRES_COPY_BOTH:
                return rows;  // the caller goes on with the COPY
            default:
                if (!failure) failure = error_from(rows.raw());
                break;
        }
        if (PQstatus(raw()) == CONNECTION_BAD) break;
    }
    if (failure) return *failure;
    return last;
}

Result<QueryRows> ServerSession::exec(const std::string& sql, Deadline deadline) {
    PP_TRY(send(sql));
    return receive(deadline);
}

Result<QueryRows> ServerSession::exec(const std::string& sql, const std::vector<SqlValue>& values, Deadline deadline) {
    PP_TRY(send(sql, values));
    return receive(deadline);
}

Result<void> ServerSession::flush_log() {
    const auto flushed = exec("SET synchronous_commit = on; SELECT pg_catalog.pg_logical_emit_message(true, 'pgporter', '')");
    return flushed ? Result<void>{} : Result<void>{flushed.error()};
}

void ServerSession::abandon() {
    if (!alive() || PQtransactionStatus(raw()) != PQTRANS_ACTIVE) return;
    if (PGcancel* cancel = PQgetCancel(raw()); cancel != nullptr) {
        char why[256];
        // Best effort: the connection is closed next, which ends the server's work too, only later.
        [[maybe_unused]] const int sent = PQcancel(cancel, why, sizeof why);
        PQfreeCancel(cancel);
    }
    // What the server was doing has ended when its answer is here: whoever cleans up next finds a settled state.
    const auto deadline = after(std::chrono::seconds(5));
    while (alive() && PQisBusy(raw()) == 1 && !passed(deadline)) {
        pollfd entry{PQsocket(raw()), POLLIN, 0};
        ::poll(&entry, 1, poll_ms(deadline));
        if (PQconsumeInput(raw()) == 0) break;
    }
}

std::string qualified(std::string_view schema, std::string_view name) {
    return quote_ident(schema) + "." + quote_ident(name);
}

}  // namespace pgporter
