// PgConnection and PgResult: a small owner of libpq's connection and result. Used by the catalog store, the follower
// and the mover. Blocking, with a bound on every wait that the options give; control-plane threads only. One thread at
// a time uses a connection; cancel() alone may come from another. Errors carry the server's SQLSTATE, message, detail
// and hint, never a password.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "catalog/server_access.hpp"

// libpq's own names (libpq-fe.h), so that this header needs no libpq; who works on raw() includes it.
typedef struct pg_conn PGconn;
typedef struct pg_result PGresult;

namespace pgporter {

// The rows of one successful statement, in text format. Move only.
class PgResult {
  public:
    explicit PgResult(PGresult* result = nullptr) : result_(result) {}
    PgResult(PgResult&& other) noexcept : result_(std::exchange(other.result_, nullptr)) {}
    PgResult& operator=(PgResult&& other) noexcept;
    ~PgResult();

    [[nodiscard]] int rows() const;
    [[nodiscard]] int columns() const;
    [[nodiscard]] bool empty() const { return rows() == 0; }
    [[nodiscard]] bool is_null(int row, int column) const;
    [[nodiscard]] std::string_view text(int row, int column) const;  // empty for null; lives as long as the result
    [[nodiscard]] std::string string(int row, int column) const { return std::string(text(row, column)); }
    // For columns that SQL types as integers: anything else is a bug. Null is 0.
    [[nodiscard]] std::int64_t integer(int row, int column) const;
    [[nodiscard]] std::uint64_t unsigned_integer(int row, int column) const;
    [[nodiscard]] bool boolean(int row, int column) const { return text(row, column) == "t"; }
    [[nodiscard]] std::uint64_t affected() const;    // rows that INSERT, UPDATE, DELETE touched
    [[nodiscard]] std::string_view command() const;  // the command tag: "UPDATE 1", "COMMIT"
    [[nodiscard]] bool is_copy() const;              // the connection is in a COPY mode now: go on with raw()
    [[nodiscard]] PGresult* raw() const { return result_; }

  private:
    PGresult* result_;
};

struct PgNotification {
    std::string channel;
    std::string payload;
};

struct PgConnectOptions {
    std::chrono::milliseconds connect_timeout{
        5'000};  // name lookup is not bounded by it: libpq does that in one blocking call
    std::chrono::milliseconds answer_timeout{
        0};  // of exec() and exec_params(); 0: none. When it passes, the connection is closed
    std::vector<std::pair<std::string, std::string>> settings;  // run-time parameters, set once connected
};

// A text with parameters, and the name by which a server that has read it knows it: one text for one name.
struct PgStatement {
    std::string name;
    std::string text;
};

using PgParams = std::vector<std::optional<std::string>>;  // nullopt: NULL

class PgConnection {
  public:
    [[nodiscard]] static Result<PgConnection> connect(const LibpqParams& params, const PgConnectOptions& options = {});
    // A libpq connection string or URI. `password` (if not empty) and application_name win over what the string says.
    [[nodiscard]] static Result<PgConnection> connect_dsn(const std::string& dsn, const Secret& password,
                                                          const std::string& application_name,
                                                          const PgConnectOptions& options = {});

    PgConnection() = default;  // not connected
    PgConnection(PgConnection&& other) noexcept
        : connection_(std::exchange(other.connection_, nullptr)), answer_timeout_(other.answer_timeout_), prepared_(std::move(other.prepared_)) {}
    PgConnection& operator=(PgConnection&& other) noexcept;
    ~PgConnection() { close(); }

    // One or several statements, simple protocol; the last one's result. The first error ends it.
    [[nodiscard]] Result<PgResult> exec(const std::string& sql);
    // One statement, extended protocol, parameters as text ($1 ...).
    [[nodiscard]] Result<PgResult> exec_params(const std::string& sql, const PgParams& params);
    // The same for a text that is used again and again: the server reads it once, and plans it a few times. prepare() has it read
    // beforehand.
    [[nodiscard]] Result<PgResult> exec_prepared(const PgStatement& statement, const PgParams& params);
    [[nodiscard]] Result<void> prepare(const PgStatement& statement);

    // Waits until bytes from the server can be read, or `wait` has passed (false). A negative fd: not used; else
    // becoming readable, it ends the wait as well.
    [[nodiscard]] bool wait_readable(std::chrono::milliseconds wait, int other_fd = -1) const;
    // Takes in what has arrived and returns the notifications so far. Error: the connection is lost.
    [[nodiscard]] Result<std::vector<PgNotification>> notifications();

    // Asks the server to cancel the running statement. May be called from another thread while this object lives and is
    // neither connected nor closed meanwhile.
    [[nodiscard]] Result<void> cancel() const;
    void close() noexcept;

    [[nodiscard]] bool is_open() const;         // connected, and no failure has been seen
    [[nodiscard]] bool in_transaction() const;  // a transaction block is open (also a failed one)
    [[nodiscard]] int server_version() const;   // 150004
    [[nodiscard]] int backend_pid() const;
    [[nodiscard]] PGconn* raw() const { return connection_; }  // COPY, replication, pipeline mode
    [[nodiscard]] Error last_error() const;                    // what libpq says of the connection, as an Error

    // libpq's result as an Error with SQLSTATE, for users of raw(). `result` may be null (then the connection's own
    // message).
    [[nodiscard]] Error error_of(const PGresult* result) const;

  private:
    explicit PgConnection(PGconn* connection) : connection_(connection) {}
    [[nodiscard]] static Result<PgConnection> open(const std::vector<std::pair<std::string, std::string>>& keywords,
                                                   const PgConnectOptions& options);
    [[nodiscard]] Result<PgResult> collect();  // the results of what was just sent
    [[nodiscard]] Result<void> flush_until(std::chrono::steady_clock::time_point deadline);
    [[nodiscard]] Error answer_too_late();

    PGconn* connection_ = nullptr;
    std::chrono::milliseconds answer_timeout_{0};
    std::set<std::string> prepared_;  // names that the server knows
};

// "acme" -> "acme" in double quotes, quotes doubled: always safe, also for reserved words.
[[nodiscard]] std::string quote_ident(std::string_view identifier);
// A string literal that means the same whatever standard_conforming_strings says.
[[nodiscard]] std::string quote_literal(std::string_view text);
// A text[] as array literal, for a parameter; and back from PostgreSQL's text output of a one-dimensional text[].
[[nodiscard]] std::string to_array_literal(const std::vector<std::string>& items);
[[nodiscard]] std::vector<std::string> from_array_literal(std::string_view literal);
// What kind of failure an SQLSTATE is.
[[nodiscard]] ErrorKind kind_of_sqlstate(std::string_view sqlstate);

}  // namespace pgporter
