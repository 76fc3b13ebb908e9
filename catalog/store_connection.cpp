#include "catalog/store_connection.hpp"

#include <utility>

#include "catalog/migrations.hpp"

namespace pgporter {
namespace {

// Nothing of the catalog's may wait without a bound: the server ends it first, the client gives up a little later.
constexpr std::string_view statement_timeout = "10s";
constexpr std::string_view lock_timeout = "5s";

}  // namespace

Result<PgConnection> connect_catalog(const CatalogConfig& config, const std::string& purpose, std::chrono::milliseconds answer_max) {
    PgConnectOptions options;
    options.connect_timeout = config.connect_timeout_ms;
    options.answer_timeout = answer_max;
    options.settings = {
        {"search_path", "pg_catalog"},  // nobody's function or operator stands in for PostgreSQL's own
        {"client_encoding", "UTF8"},
        {"synchronous_commit", "on"},
        {"statement_timeout", std::string(statement_timeout)},
        {"lock_timeout", std::string(lock_timeout)},
        {"idle_in_transaction_session_timeout", "60s"},
        {"idle_session_timeout", "0"},  // who listens, or keeps a lock, is idle by trade
        {"client_min_messages", "warning"},
    };
    auto connection = PgConnection::connect_dsn(config.dsn, config.password, "pgporter " + purpose, options);
    if (!connection) {
        Error error = connection.error();
        error.message = "the catalog can't be reached: " + error.message;
        return error;
    }
    return connection;
}

Result<void> StoreConnection::open() {
    const std::lock_guard lock(mutex_);
    return make_ready();
}

Result<void> StoreConnection::make_ready() {
    if (connection_.is_open() && migrated_) return {};
    if (!connection_.is_open()) {
        auto connection = connect_catalog(config_, "catalog");
        if (!connection) return connection.error();
        connection_ = *std::move(connection);
    }
    if (!migrated_) {
        PP_TRY(migrate(connection_));
        migrated_ = true;
    }
    return {};
}

Result<StoreTransaction> StoreTransaction::begin(StoreConnection& store, Mode mode) {
    StoreTransaction transaction(store, std::unique_lock(store.mutex_));
    PP_TRY(store.make_ready());
    const std::string sql = mode == Mode::read_only ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
                                                    : "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    auto begun = store.connection_.exec(sql);
    if (!begun && !store.connection_.is_open()) {
        // It broke while it was idle (a restart of the catalog). Nothing of this transaction was sent, so a new one may
        // try.
        PP_TRY(store.make_ready());
        begun = store.connection_.exec(sql);
    }
    if (!begun) return begun.error();
    return transaction;
}

StoreTransaction::StoreTransaction(StoreTransaction&& other) noexcept
    : store_(other.store_), lock_(std::move(other.lock_)), outcome_unknown_(other.outcome_unknown_) {}

StoreTransaction::~StoreTransaction() {
    rollback();
}

Result<void> StoreTransaction::commit() {
    auto done = sql().exec("COMMIT");
    const bool lost = !sql().is_open();
    const bool committed = done && done->command() == "COMMIT";
    if (!committed && !lost) rollback();
    if (lock_.owns_lock()) lock_.unlock();
    if (committed) return {};
    outcome_unknown_ = lost;
    if (lost) {
        return fail(ErrorKind::unavailable,
                    "the connection to the catalog was lost while it committed; the outcome is unknown", {},
                    "read it back before trying again", "08007");
    }
    return done ? fail(ErrorKind::internal, "the catalog rolled the transaction back") : done.error();
}

void StoreTransaction::rollback() {
    if (!lock_.owns_lock()) return;
    if (sql().is_open() && sql().in_transaction() && !sql().exec("ROLLBACK")) sql().close();
    lock_.unlock();
}

}  // namespace pgporter
