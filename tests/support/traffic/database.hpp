// Database: one libpq connection that tells a lost connection from a refused statement. Owned by one client thread; blocking.
// It never retries and never reconnects by itself: the caller counts what failed.
#pragma once

#include <libpq-fe.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/result.hpp"

namespace pgporter::traffic {

class Rows {
  public:
    explicit Rows(PGresult* result) : result_(result) {}
    [[nodiscard]] int count() const { return PQntuples(result_.get()); }
    [[nodiscard]] bool is_null(int row, int column) const { return PQgetisnull(result_.get(), row, column) == 1; }
    [[nodiscard]] std::string_view text(int row, int column) const;
    [[nodiscard]] std::int64_t number(int row, int column) const;  // 0 where it isn't one
    [[nodiscard]] std::string_view tag() const { return PQcmdStatus(result_.get()); }

  private:
    struct Clear {
        void operator()(PGresult* result) const { PQclear(result); }
    };
    std::unique_ptr<PGresult, Clear> result_;
};

// ErrorKind::unavailable: the connection is gone, and what it was doing may or may not have happened. Others: refused by the server.
class Database {
  public:
    // `socket_out`, if given, always holds the descriptor of the open connection, or -1: another thread may shut it down.
    [[nodiscard]] static Result<Database> connect(const std::string& dsn, std::atomic<int>* socket_out = nullptr);

    [[nodiscard]] Result<Rows> simple(const std::string& sql);  // one Query message; the last statement's rows
    [[nodiscard]] Result<Rows> extended(const std::string& sql, const std::vector<std::string>& parameters);
    // A named statement, prepared when it is first used on this connection.
    [[nodiscard]] Result<Rows> prepared(const std::string& name, const std::string& sql,
                                        const std::vector<std::string>& parameters);
    // COPY (query) TO STDOUT: one string a row, in COPY's text form.
    [[nodiscard]] Result<std::vector<std::string>> copy_out(const std::string& query);

    [[nodiscard]] bool is_alive() const { return PQstatus(connection_.get()) == CONNECTION_OK; }
    [[nodiscard]] bool is_in_transaction() const { return PQtransactionStatus(connection_.get()) != PQTRANS_IDLE; }

  private:
    struct Finish {
        std::atomic<int>* socket_out = nullptr;
        void operator()(PGconn* connection) const;
    };
    explicit Database(std::unique_ptr<PGconn, Finish> connection) : connection_(std::move(connection)) {}
    [[nodiscard]] Result<Rows> take(PGresult* result);
    [[nodiscard]] Error error_of(const PGresult* result) const;

    std::unique_ptr<PGconn, Finish> connection_;
    std::unordered_set<std::string> prepared_;
};

[[nodiscard]] std::string quote_identifier(std::string_view name);
[[nodiscard]] std::string quote_literal(std::string_view value);
// The DSN with every {tenant} replaced.
[[nodiscard]] std::string dsn_for(const std::string& dsn_template, std::string_view tenant);

}  // namespace pgporter::traffic
