#include "catalog/pg_connection.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "base/assert.hpp"

namespace pgporter {
namespace {

using Clock = std::chrono::steady_clock;

// libpq ends its messages with a line feed and breaks long ones into lines; ours are one line each.
std::string one_line(const char* text) {
    std::string line;
    for (const char* c = text == nullptr ? "" : text; *c != '\0'; ++c) line += (*c == '\n' || *c == '\t') ? ' ' : *c;
    while (!line.empty() && line.back() == ' ') line.pop_back();
    return line;
}

std::string field(const PGresult* result, int code) {
    return one_line(PQresultErrorField(result, code));
}

// poll() on one or two descriptors until `deadline`; time_point::max() means without a bound. Negative: poll failed.
int poll_until(std::array<pollfd, 2> fds, Clock::time_point deadline) {
    for (;;) {
        int wait_ms = -1;
        if (deadline != Clock::time_point::max()) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
            wait_ms = static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
        }
        const int ready = ::poll(fds.data(), fds.size(), wait_ms);
        if (ready >= 0 || errno != EINTR) return ready;
    }
}

int poll_socket(int socket, short events, Clock::time_point deadline) {
    return poll_until({pollfd{socket, events, 0}, pollfd{-1, 0, 0}}, deadline);
}

Clock::time_point deadline_after(std::chrono::milliseconds wait) {
    return wait.count() <= 0 ? Clock::time_point::max() : Clock::now() + wait;
}

std::string application_text(const std::vector<std::pair<std::string, std::string>>& settings) {
    std::string sql;
    for (const auto& [name, value] : settings) {
        sql += sql.empty() ? "SELECT " : ", ";
        sql += "pg_catalog.set_config(" + quote_literal(name) + ", " + quote_literal(value) + ", false)";
    }
    return sql;
}

// A dead peer is found within half a minute, whatever the statement waits for. Given first, so that a connection string
// may differ.
void append_keepalives(std::vector<std::pair<std::string, std::string>>& keywords) {
    keywords.emplace_back("keepalives", "1");
    keywords.emplace_back("keepalives_idle", "10");
    keywords.emplace_back("keepalives_interval", "5");
    keywords.emplace_back("keepalives_count", "3");
    keywords.emplace_back("tcp_user_timeout", "20000");
}

}  // namespace

// ---- PgResult

PgResult& PgResult::operator=(PgResult&& other) noexcept {
    if (this != &other) {
        PQclear(result_);
        result_ = std::exchange(other.result_, nullptr);
    }
    return *this;
}

PgResult::~PgResult() {
    PQclear(result_);
}

int PgResult::rows() const {
    return PQntuples(result_);
}

int PgResult::columns() const {
    return PQnfields(result_);
}

bool PgResult::is_null(int row, int column) const {
    return PQgetisnull(result_, row, column) != 0;
}

std::string_view PgResult::text(int row, int column) const {
    PP_ASSERT(row >= 0 && row < rows() && column >= 0 && column < columns());
    return {PQgetvalue(result_, row, column), static_cast<std::size_t>(PQgetlength(result_, row, column))};
}

template <class T>
static T number_from(std::string_view text) {
    T value{};
    if (text.empty()) return value;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    PP_ASSERT(error == std::errc{} && end == text.data() + text.size());
    return value;
}

std::int64_t PgResult::integer(int row, int column) const {
    return number_from<std::int64_t>(text(row, column));
}

std::uint64_t PgResult::unsigned_integer(int row, int column) const {
    return number_from<std::uint64_t>(text(row, column));
}

std::uint64_t PgResult::affected() const {
    return number_from<std::uint64_t>(PQcmdTuples(result_));
}

std::string_view PgResult::command() const {
    return PQcmdStatus(result_);
}

bool PgResult::is_copy() const {
    const auto status = PQresultStatus(result_);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

// ---- PgConnection

Result<PgConnection> PgConnection::connect(const LibpqParams& params, const PgConnectOptions& options) {
    std::vector<std::pair<std::string, std::string>> keywords;
    append_keepalives(keywords);
    for (const auto& [name, value] : params.keywords) {
        // What libpq expands as a connection string would be read as one even if it is a database's odd name.
        if (name == "dbname" && value.find_first_of("=:") != std::string::npos) {
            std::string escaped = "dbname='";
            for (const char c : value) {
                if (c == '\'' || c == '\\') escaped += '\\';
                escaped += c;
            }
            keywords.emplace_back(name, escaped + "'");
        } else {
            keywords.emplace_back(name, value);
        }
    }
    if (!params.password.empty()) keywords.emplace_back("password", std::string(params.password.reveal()));
    return open(keywords, options);
}

Result<PgConnection> PgConnection::connect_dsn(const std::string& dsn, const Secret& password,
                                               const std::string& application_name, const PgConnectOptions& options) {
    std::vector<std::pair<std::string, std::string>> keywords;
    append_keepalives(keywords);
    keywords.emplace_back("dbname", dsn);
    keywords.emplace_back("application_name", application_name);
    if (!password.empty()) keywords.emplace_back("password", std::string(password.reveal()));
    return open(keywords, options);
}

Result<PgConnection> PgConnection::open(const std::vector<std::pair<std::string, std::string>>& keywords,
                                        const PgConnectOptions& options) {
    std::vector<const char*> names;
    std::vector<const char*> values;
    for (const auto& [name, value] : keywords) {
        names.push_back(name.c_str());
        values.push_back(value.c_str());
    }
    names.push_back(nullptr);
    values.push_back(nullptr);
    PgConnection connection(PQconnectStartParams(names.data(), values.data(), /*expand_dbname=*/1));
    if (connection.connection_ == nullptr) return fail(ErrorKind::internal, "out of memory in libpq");
    PQsetNoticeProcessor(
        connection.connection_, [](void*, const char*) {}, nullptr);

    const auto deadline = deadline_after(options.connect_timeout);
    auto status = PGRES_POLLING_WRITING;  // what libpq asks to begin with
    if (PQstatus(connection.connection_) == CONNECTION_BAD) status = PGRES_POLLING_FAILED;
    while (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED) {
        const short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        const int ready = poll_socket(PQsocket(connection.connection_), events, deadline);
        if (ready <= 0) {
            return fail(ErrorKind::unavailable, "the PostgreSQL server at " + one_line(PQhost(connection.connection_)) +
                                                    ":" + one_line(PQport(connection.connection_)) +
                                                    " did not complete the login within " +
                                                    std::to_string(options.connect_timeout.count()) + " ms");
        }
        status = PQconnectPoll(connection.connection_);
    }
    if (status == PGRES_POLLING_FAILED) return connection.last_error();
    connection.answer_timeout_ = options.answer_timeout;
    if (!options.settings.empty()) PP_TRY(connection.exec(application_text(options.settings)));
    return connection;
}

PgConnection& PgConnection::operator=(PgConnection&& other) noexcept {
    if (this != &other) {
        close();
        connection_ = std::exchange(other.connection_, nullptr);
        answer_timeout_ = other.answer_timeout_;
        prepared_ = std::move(other.prepared_);
    }
    return *this;
}

void PgConnection::close() noexcept {
    prepared_.clear();
    if (connection_ != nullptr) PQfinish(std::exchange(connection_, nullptr));
}

Result<PgResult> PgConnection::exec(const std::string& sql) {
    if (!is_open()) return fail(ErrorKind::unavailable, "the connection to PostgreSQL is closed");
    PQsetnonblocking(connection_, 1);  // sending is bounded as well
    if (PQsendQuery(connection_, sql.c_str()) != 1) return last_error();
    return collect();
}

Result<PgResult> PgConnection::exec_params(const std::string& sql, const PgParams& params) {
    if (!is_open()) return fail(ErrorKind::unavailable, "the connection to PostgreSQL is closed");
    std::vector<const char*> values;
    values.reserve(params.size());
    for (const auto& param : params) values.push_back(param ? param->c_str() : nullptr);
    PQsetnonblocking(connection_, 1);
    const int sent = PQsendQueryParams(connection_, sql.c_str(), static_cast<int>(values.size()), nullptr,
                                       values.data(), nullptr, nullptr, /*resultFormat=*/0);
    if (sent != 1) return last_error();
    return collect();
}

Result<void> PgConnection::prepare(const PgStatement& statement) {
    if (!is_open()) return fail(ErrorKind::unavailable, "the connection to PostgreSQL is closed");
    if (prepared_.contains(statement.name)) return {};
    PQsetnonblocking(connection_, 1);
    if (PQsendPrepare(connection_, statement.name.c_str(), statement.text.c_str(), 0, nullptr) != 1) return last_error();
    PP_TRY(collect());
    prepared_.insert(statement.name);
    return {};
}

Result<PgResult> PgConnection::exec_prepared(const PgStatement& statement, const PgParams& params) {
    PP_TRY(prepare(statement));
    std::vector<const char*> values;
    values.reserve(params.size());
    for (const auto& param : params) values.push_back(param ? param->c_str() : nullptr);
    PQsetnonblocking(connection_, 1);
    const int sent = PQsendQueryPrepared(connection_, statement.name.c_str(), static_cast<int>(values.size()), values.data(),
                                         nullptr, nullptr, /*resultFormat=*/0);
    if (sent != 1) return last_error();
    return collect();
}

Result<void> PgConnection::flush_until(Clock::time_point deadline) {
    for (;;) {
        const int left = PQflush(connection_);
        if (left == 0) break;
        if (left < 0) return last_error();
        // A server that stopped reading until its own output is read must be read from, or both sides wait for ever.
        if (poll_socket(PQsocket(connection_), POLLIN | POLLOUT, deadline) <= 0) return answer_too_late();
        if (PQconsumeInput(connection_) != 1) return last_error();
    }
    PQsetnonblocking(connection_, 0);
    return {};
}

Result<PgResult> PgConnection::collect() {
    const auto deadline = deadline_after(answer_timeout_);
    PP_TRY(flush_until(deadline));
    PgResult last;
    std::optional<Error> first_error;
    for (;;) {
        while (PQisBusy(connection_) != 0) {
            if (poll_socket(PQsocket(connection_), POLLIN, deadline) <= 0) return answer_too_late();
            if (PQconsumeInput(connection_) != 1) return last_error();
        }
        PgResult result(PQgetResult(connection_));
        if (result.raw() == nullptr) break;
        switch (PQresultStatus(result.raw())) {
            case PGRES_BAD_RESPONSE:
            case PGRES_FATAL_ERROR:
                if (!first_error) first_error = error_of(result.raw());
                break;
            default:
                last = std::move(result);
        }
        if (last.raw() != nullptr && last.is_copy()) break;  // PQgetResult would say the same for ever
    }
    if (first_error) return *std::move(first_error);
    if (last.raw() == nullptr) return last_error();
    return last;
}

Error PgConnection::answer_too_late() {
    close();  // the answer may still come: nobody may take it for that of another statement
    return fail(ErrorKind::unavailable,
                "PostgreSQL did not answer within " + std::to_string(answer_timeout_.count()) + " ms", {}, {}, "08006");
}

bool PgConnection::wait_readable(std::chrono::milliseconds wait, int other_fd) const {
    const int socket = connection_ == nullptr ? -1 : PQsocket(connection_);
    const auto deadline = Clock::now() + std::max(wait, std::chrono::milliseconds{0});
    return poll_until({pollfd{socket, POLLIN, 0}, pollfd{other_fd, POLLIN, 0}}, deadline) > 0;
}

Result<std::vector<PgNotification>> PgConnection::notifications() {
    if (connection_ == nullptr) return fail(ErrorKind::unavailable, "the connection to PostgreSQL is closed");
    if (PQconsumeInput(connection_) != 1) return last_error();
    std::vector<PgNotification> all;
    while (PGnotify* notification = PQnotifies(connection_)) {
        all.push_back({notification->relname, notification->extra});
        PQfreemem(notification);
    }
    return all;
}

Result<void> PgConnection::cancel() const {
    PGcancel* handle = connection_ == nullptr ? nullptr : PQgetCancel(connection_);
    if (handle == nullptr) return fail(ErrorKind::unavailable, "the connection to PostgreSQL is closed");
    std::array<char, 256> text{};
    const int sent = PQcancel(handle, text.data(), static_cast<int>(text.size()));
    PQfreeCancel(handle);
    if (sent != 1)
        return fail(ErrorKind::unavailable, "the cancel request could not be sent: " + one_line(text.data()));
    return {};
}

bool PgConnection::is_open() const {
    return connection_ != nullptr && PQstatus(connection_) == CONNECTION_OK;
}

bool PgConnection::in_transaction() const {
    if (connection_ == nullptr) return false;
    const auto status = PQtransactionStatus(connection_);
    return status == PQTRANS_INTRANS || status == PQTRANS_INERROR || status == PQTRANS_ACTIVE;
}

int PgConnection::server_version() const {
    return connection_ == nullptr ? 0 : PQserverVersion(connection_);
}

int PgConnection::backend_pid() const {
    return connection_ == nullptr ? 0 : PQbackendPID(connection_);
}

Error PgConnection::last_error() const {
    return error_of(nullptr);
}

Error PgConnection::error_of(const PGresult* result) const {
    const std::string sqlstate = result == nullptr ? std::string() : field(result, PG_DIAG_SQLSTATE);
    if (sqlstate.empty()) {  // libpq itself, not the server: almost always a lost connection
        std::string message = one_line(result != nullptr ? PQresultErrorMessage(result) : PQerrorMessage(connection_));
        if (message.empty()) message = "the connection to PostgreSQL is lost";
        return fail(is_open() ? ErrorKind::internal : ErrorKind::unavailable, message, {}, {},
                    is_open() ? "" : "08006");
    }
    return fail(kind_of_sqlstate(sqlstate), field(result, PG_DIAG_MESSAGE_PRIMARY),
                field(result, PG_DIAG_MESSAGE_DETAIL), field(result, PG_DIAG_MESSAGE_HINT), sqlstate);
}

}  // namespace pgporter
