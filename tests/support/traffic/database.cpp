#include "tests/support/traffic/database.hpp"

#include <charconv>

namespace pgporter::traffic {

std::string_view Rows::text(int row, int column) const {
    return {PQgetvalue(result_.get(), row, column), static_cast<std::size_t>(PQgetlength(result_.get(), row, column))};
}

std::int64_t Rows::number(int row, int column) const {
    const std::string_view digits = text(row, column);
    std::int64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
}

void Database::Finish::operator()(PGconn* connection) const {
    if (socket_out != nullptr) socket_out->store(-1);
    PQfinish(connection);
}

namespace {

// libpq's messages end in a line feed, and may have several lines; the first says what happened.
std::string first_line(const char* message) {
    const std::string_view text = message == nullptr ? "" : message;
    return std::string(text.substr(0, text.find('\n')));
}

std::vector<const char*> pointers_to(const std::vector<std::string>& parameters) {
    std::vector<const char*> pointers;
    pointers.reserve(parameters.size());
    for (const std::string& parameter : parameters) pointers.push_back(parameter.c_str());
    return pointers;
}

}  // namespace

Result<Database> Database::connect(const std::string& dsn, std::atomic<int>* socket_out) {
    // A bound of our own comes first, so that the DSN may still say otherwise. A URI has to bring its own.
    const bool is_uri = dsn.starts_with("postgres");
    const std::string bounded = is_uri ? dsn : "connect_timeout=10 " + dsn;
    std::unique_ptr<PGconn, Finish> connection(PQconnectdb(bounded.c_str()), Finish{socket_out});
    if (PQstatus(connection.get()) != CONNECTION_OK) {
        // A failed login has no result, hence no SQLSTATE: libpq gives the text alone.
        return fail(ErrorKind::unavailable, first_line(PQerrorMessage(connection.get())), {}, {}, "08001");
    }
    PQsetNoticeProcessor(connection.get(), [](void*, const char*) {}, nullptr);
    if (socket_out != nullptr) socket_out->store(PQsocket(connection.get()));
    return Database(std::move(connection));
}

Error Database::error_of(const PGresult* result) const {
    const char* sqlstate = result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char* message = result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char* severity = result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    // Someone between us and the server may be the one that ends the session, and can't know whether a COMMIT arrived.
    const std::string_view state = sqlstate == nullptr ? "08006" : sqlstate;
    const bool is_lost = !is_alive() || state.starts_with("08") || state == "40003" ||
                         (severity != nullptr && std::string_view(severity) != "ERROR");
    return fail(is_lost ? ErrorKind::unavailable : ErrorKind::invalid, message != nullptr ? message : first_line(PQerrorMessage(connection_.get())), {}, {},
                std::string(state));
}

Result<Rows> Database::take(PGresult* result) {
    Rows rows(result);
    const ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY) return rows;
    return error_of(result);
}

Result<Rows> Database::simple(const std::string& sql) { return take(PQexec(connection_.get(), sql.c_str())); }

Result<Rows> Database::extended(const std::string& sql, const std::vector<std::string>& parameters) {
    const auto values = pointers_to(parameters);
    return take(PQexecParams(connection_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(), nullptr,
                             nullptr, 0));
}

Result<Rows> Database::prepared(const std::string& name, const std::string& sql, const std::vector<std::string>& parameters) {
    if (!prepared_.contains(name)) {
        auto prepare = take(PQprepare(connection_.get(), name.c_str(), sql.c_str(), 0, nullptr));
        if (!prepare) return prepare.error();
        prepared_.insert(name);
    }
    const auto values = pointers_to(parameters);
    return take(PQexecPrepared(connection_.get(), name.c_str(), static_cast<int>(values.size()), values.data(), nullptr,
                               nullptr, 0));
}

Result<std::vector<std::string>> Database::copy_out(const std::string& query) {
    std::unique_ptr<PGresult, decltype(&PQclear)> start(
        PQexec(connection_.get(), ("COPY (" + query + ") TO STDOUT").c_str()), &PQclear);
    if (PQresultStatus(start.get()) != PGRES_COPY_OUT) return error_of(start.get());
    std::vector<std::string> lines;
    char* line = nullptr;
    int length = 0;
    while ((length = PQgetCopyData(connection_.get(), &line, 0)) > 0) {
        lines.emplace_back(line, static_cast<std::size_t>(length - 1));  // without the line feed
        PQfreemem(line);
    }
    // -1: the copy is over, and its result follows; -2: it failed.
    std::unique_ptr<PGresult, decltype(&PQclear)> last(nullptr, &PQclear);
    bool ok = length == -1;
    while (PGresult* result = PQgetResult(connection_.get())) {
        ok = ok && PQresultStatus(result) == PGRES_COMMAND_OK;
        last.reset(result);
    }
    if (!ok) return error_of(last.get());
    return lines;
}

std::string quote_identifier(std::string_view name) {
    std::string quoted = "\"";
    for (const char c : name) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    return quoted + '"';
}

std::string quote_literal(std::string_view value) {
    std::string quoted = "'";
    for (const char c : value) {
        if (c == '\'') quoted += '\'';
        quoted += c;
    }
    return quoted + "'";
}

std::string dsn_for(const std::string& dsn_template, std::string_view tenant) {
    constexpr std::string_view kMark = "{tenant}";
    std::string dsn;
    std::size_t from = 0;
    for (std::size_t at = 0; (at = dsn_template.find(kMark, from)) != std::string::npos; from = at + kMark.size()) {
        dsn.append(dsn_template, from, at - from).append(tenant);
    }
    return dsn.append(dsn_template, from);
}

}  // namespace pgporter::traffic
