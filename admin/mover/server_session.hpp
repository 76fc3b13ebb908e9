// ServerSession: one libpq connection of a move to the source or the target. Never blocks without hearing the move's
// Interrupt and a deadline; that is why it drives libpq's asynchronous half itself instead of using
// catalog/pg_connection.hpp, whose waits nobody can end. Owned and used by one thread at a time. COPY, pipeline and
// replication work on raw() with wait_for(). It must not: retry anything, or decide what an error means for a move.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "admin/mover/interrupt.hpp"
#include "base/result.hpp"
#include "catalog/pg_connection.hpp"
#include "catalog/server_access.hpp"

namespace pgporter {

// The rows of one statement. Rows and columns are counted from 0.
class QueryRows {
  public:
    QueryRows() = default;
    explicit QueryRows(PGresult* result) : result_(result) {}
    QueryRows(QueryRows&& other) noexcept : result_(std::exchange(other.result_, nullptr)) {}
    QueryRows& operator=(QueryRows&& other) noexcept {
        std::swap(result_, other.result_);
        return *this;
    }
    ~QueryRows();

    [[nodiscard]] int count() const;
    [[nodiscard]] bool empty() const { return count() == 0; }
    [[nodiscard]] bool is_null(int row, int column) const;
    [[nodiscard]] std::string_view text(int row, int column) const;
    [[nodiscard]] std::string string(int row, int column) const { return std::string(text(row, column)); }
    [[nodiscard]] std::int64_t number(int row, int column) const;
    [[nodiscard]] bool flag(int row, int column) const { return text(row, column) == "t"; }
    [[nodiscard]] std::uint64_t affected() const;
    [[nodiscard]] PGresult* raw() const { return result_; }

  private:
    PGresult* result_ = nullptr;
};

using SqlValue = std::optional<std::string>;  // none: NULL

class ServerSession {
  public:
    struct Options {
        bool replication = false;
        std::chrono::milliseconds connect_timeout{5'000};
    };
    // Connected, with the server's own encoding as the client's (so nothing is converted on the way) and every timeout
    // off.
    [[nodiscard]] static Result<std::unique_ptr<ServerSession>> connect(const LibpqParams& params,
                                                                        const Interrupt& interrupt,
                                                                        const Options& options);

    // Runs one or several statements of the simple protocol; the rows of the last one.
    [[nodiscard]] Result<QueryRows> exec(const std::string& sql, Deadline deadline = std::nullopt);
    [[nodiscard]] Result<QueryRows> exec(const std::string& sql, const std::vector<SqlValue>& values,
                                         Deadline deadline = std::nullopt);
    // What others have committed there without waiting for the disk is on it then. Whoever was connected all the time knows by that, too, that the
    // server hasn't lost any of it by crashing meanwhile.
    [[nodiscard]] Result<void> flush_log();
    // The two halves of exec(): what is between them goes on while the server works.
    [[nodiscard]] Result<void> send(const std::string& sql);
    [[nodiscard]] Result<void> send(const std::string& sql, const std::vector<SqlValue>& values);
    [[nodiscard]] Result<QueryRows> receive(Deadline deadline = std::nullopt);

    // Waits until the socket is readable (or writable too); timeout, cancelled and unavailable are its errors.
    [[nodiscard]] Result<void> wait_for(bool writable, const Deadline& deadline);
    // Sends what libpq has buffered, reading meanwhile so that neither side can block the other.
    [[nodiscard]] Result<void> flush(const Deadline& deadline);
    [[nodiscard]] Result<PGresult*> next_result(const Deadline& deadline);  // null: no more of this statement
    // Asks the server to end what it runs for us. Bounded; the session is of no use afterwards.
    void abandon();

    [[nodiscard]] PGconn* raw() const { return connection_.get(); }
    [[nodiscard]] const Interrupt& interrupt() const { return *interrupt_; }
    [[nodiscard]] int socket() const;
    [[nodiscard]] int server_version() const;
    [[nodiscard]] int backend_pid() const;
    [[nodiscard]] bool alive() const;
    [[nodiscard]] std::string parameter(const char* name) const;

  private:
    ServerSession(PGconn* connection, const Interrupt& interrupt) : connection_(connection), interrupt_(&interrupt) {}
    [[nodiscard]] Result<void> finish_connecting(const Deadline& deadline);
    [[nodiscard]] Error connection_error() const;

    struct Finish {
        void operator()(PGconn* connection) const;
    };
    std::unique_ptr<PGconn, Finish> connection_;
    const Interrupt* interrupt_;
};

// "schema"."name"
[[nodiscard]] std::string qualified(std::string_view schema, std::string_view name);
// What a server answered, as our error: kind from the SQLSTATE, message, detail and hint as they came.
[[nodiscard]] Error error_from(const PGresult* result);

}  // namespace pgporter
