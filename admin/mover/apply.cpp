#include "admin/mover/apply.hpp"

#include <libpq-fe.h>

#include "admin/mover/move_names.hpp"

namespace pgporter {
namespace {

constexpr std::size_t unanswered_max = 4'000;  // rows on their way
constexpr std::size_t prepared_max = 500;      // beyond, a statement is sent with its text
constexpr std::size_t collected_max = 2'000;   // rows in all tables' batches together

std::vector<const char*> zero_ended(const ApplyStatement& statement, std::vector<std::string>& storage) {
    storage.clear();
    storage.reserve(statement.values.size());
    std::vector<const char*> pointers;
    for (const auto& value : statement.values) {
        if (!value) {
            pointers.push_back(nullptr);
            continue;
        }
        storage.emplace_back(*value);
        pointers.push_back(storage.back().c_str());
    }
    return pointers;
}

}  // namespace

Result<void> create_progress_table(ServerSession& target, const MoveServers& servers, const std::string& signature) {
    const auto schema = quote_ident(servers.artefact());
    PP_TRY(target.exec("BEGIN; CREATE SCHEMA " + schema + "; CREATE TABLE " + schema +
                       ".progress (lsn pg_lsn NOT NULL, signature text NOT NULL); INSERT INTO " + schema +
                       ".progress VALUES ('0/0', " + quote_literal(signature) + "); COMMIT"));
    return {};
}

Result<std::string> read_progress_signature(ServerSession& target, const MoveServers& servers) {
    auto rows = target.exec("SELECT signature FROM " + quote_ident(servers.artefact()) + ".progress");
    if (!rows) return rows.error();
    if (rows->count() != 1) return fail(ErrorKind::conflict, "the progress row of " + servers.artefact() + " is missing");
    return rows->string(0, 0);
}

Result<Applier> Applier::connect(const MoveServers& servers, const std::string& search_path) {
    auto session = servers.target();
    if (!session) return session.error();
    Applier applier(std::move(*session));
    const auto progress = quote_ident(servers.artefact()) + ".progress";
    const auto mark = "SELECT pg_catalog.pg_logical_emit_message(true, " + quote_literal(servers.artefact()) + ", " +
                      quote_literal(applied_mark) + ")";
    auto rows = applier.session_->exec(
        // Plans are made once, when a table may still be small: by the key's index, whatever its size was then.
        std::string("SET session_replication_role = replica; SET synchronous_commit = off; SET row_security = off; SET jit = off"
                    "; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
                    "; SET plan_cache_mode = force_generic_plan; SET ") +
        applies_setting + " = " + quote_literal(servers.artefact()) + "; SET search_path = " + search_path +
        "; PREPARE mark AS " + mark + "; PREPARE progress(pg_lsn) AS UPDATE " + progress +
        " SET lsn = $1; SELECT lsn FROM " + progress);
    if (!rows) return rows.error();
    const auto at = rows->count() == 1 ? lsn_from(rows->text(0, 0)) : std::nullopt;
    if (!at) return fail(ErrorKind::internal, "the target's progress row is missing");
    applier.applied_ = *at;
    // It was read back from what is committed; whether it is flushed too, the next durable commit will tell.
    if (PQenterPipelineMode(applier.session_->raw()) != 1) return applier.broken();
    return applier;
}

Error Applier::broken() const {
    return fail(ErrorKind::unavailable, "the connection to the target broke", PQerrorMessage(session_->raw()));
}

Result<void> Applier::queue(int sent, Expected expected) {
    if (sent != 1) return broken();
    expected_rows_ += expected.rows;
    expected_.push_back(std::move(expected));
    unsent_ = true;
    return {};
}

Result<void> Applier::make_room() {
    if (expected_rows_ < unanswered_max) return {};
    // The server answers what it has done only when asked to.
    if (PQsendFlushRequest(session_->raw()) != 1) return broken();
    unsent_ = true;
    while (expected_rows_ > unanswered_max / 2) {
        PP_TRY(advance());
        if (expected_rows_ <= unanswered_max / 2) break;
        if (unsent_) {
            PP_TRY(session_->flush(std::nullopt));
            unsent_ = false;
        } else {
            PP_TRY(session_->wait_for(false, std::nullopt));
        }
    }
    return {};
}

Result<void> Applier::open() {
    if (open_) return {};
    PP_TRY(queue(PQsendQueryParams(session_->raw(), "BEGIN", 0, nullptr, nullptr, nullptr, nullptr, 0), {}));
    PP_TRY(queue(PQsendQueryPrepared(session_->raw(), "mark", 0, nullptr, nullptr, nullptr, 0), {}));
    open_ = true;
    changes_open_ = 0;
    return {};
}

Result<bool> Applier::collect(const SourceTable& table, const pgoutput::Message& change) {
    auto row = batch_row(table, change);
    if (!row) return false;
    PP_TRY(open());
    auto& batch = batches_[&table];
    if (!batch.takes(*row)) PP_TRY(flush(table, batch));
    batch.add(std::move(*row));
    ++collected_;
    ++changes_open_;
    if (batch.full()) PP_TRY(flush(table, batch));
    if (collected_ >= collected_max) PP_TRY(flush_all());
    return true;
}

Result<void> Applier::flush(const SourceTable& table, Batch& batch) {
    const auto each = batch.form().columns.size();
    const auto values = batch.values();
    for (std::size_t at = 0; at < batch.rows();) {
        const auto rows = batch_size(batch.rows() - at, each);
        Expected expected{Answer::rows, &table};
        expected.rows = rows;
        PP_TRY(send(batch_statement(table, batch.form(), rows), values.data() + at * each, rows * each, std::move(expected)));
        at += rows;
    }
    collected_ -= batch.rows();
    batch.clear();
    return {};
}

Result<void> Applier::flush_all() {
    if (collected_ == 0) return {};
    for (auto& [table, batch] : batches_) {
        if (!batch.empty()) PP_TRY(flush(*table, batch));
    }
    return {};
}

Result<void> Applier::change(const SourceTable& table, const ApplyStatement& statement, Rows rows) {
    return send_alone(table, statement, {rows == Rows::one ? Answer::rows : Answer::one_or_none, &table});
}

Result<void> Applier::change_tracked(const SourceTable& table, const ApplyStatement& statement, std::string key) {
    Expected expected{Answer::tracked, &table};
    expected.key = std::move(key);
    return send_alone(table, statement, std::move(expected));
}

Result<void> Applier::ask_for_answers() {
    PP_TRY(flush_all());
    if (expected_.empty()) return {};
    if (PQsendFlushRequest(session_->raw()) != 1) return broken();
    unsent_ = true;
    return {};
}

Result<void> Applier::send_alone(const SourceTable& table, const ApplyStatement& statement, Expected expected) {
    PP_TRY(open());
    if (const auto batch = batches_.find(&table); batch != batches_.end()) PP_TRY(flush(table, batch->second));
    ++changes_open_;
    std::vector<std::string> storage;
    const auto values = zero_ended(statement, storage);
    return send(statement.sql, values.data(), values.size(), std::move(expected));
}

Result<void> Applier::send(const std::string& sql, const char* const* values, std::size_t count, Expected expected) {
    PP_TRY(make_room());
    auto* connection = session_->raw();
    auto found = prepared_.find(sql);
    if (found == prepared_.end() && prepared_.size() < prepared_max) {
        const auto name = "change_" + std::to_string(prepared_.size());
        PP_TRY(queue(PQsendPrepare(connection, name.c_str(), sql.c_str(), 0, nullptr), {Answer::any, expected.table}));
        found = prepared_.emplace(sql, name).first;
    }
    const auto number = static_cast<int>(count);
    const int sent = found == prepared_.end()
                         ? PQsendQueryParams(connection, sql.c_str(), number, nullptr, values, nullptr, nullptr, 0)
                         : PQsendQueryPrepared(connection, found->second.c_str(), number, values, nullptr, nullptr, 0);
    return queue(sent, std::move(expected));
}

Result<void> Applier::run(const std::string& sql) {
    PP_TRY(make_room());
    PP_TRY(open());
    PP_TRY(flush_all());
    return queue(PQsendQueryParams(session_->raw(), sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0), {});
}

Result<void> Applier::commit(Lsn end, Durability durability) {
    PP_TRY(open());
    PP_TRY(flush_all());
    auto* connection = session_->raw();
    if (durability == Durability::now) PP_TRY(run("SET LOCAL synchronous_commit = on"));
    const auto position = to_text(end);
    const char* values[] = {position.c_str()};
    PP_TRY(queue(PQsendQueryPrepared(connection, "progress", 1, values, nullptr, nullptr, 0), {Answer::rows}));
    PP_TRY(queue(PQsendQueryParams(connection, "COMMIT", 0, nullptr, nullptr, nullptr, nullptr, 0),
                 {Answer::commit, nullptr, end, durability}));
    PP_TRY(queue(PQpipelineSync(connection), {Answer::sync}));
    open_ = false;
    changes_open_ = 0;
    return advance();
}

Result<void> Applier::take(const PGresult* result) {
    auto expected = std::move(expected_.front());
    expected_.pop_front();
    expected_rows_ -= expected.rows;
    const auto status = PQresultStatus(result);
    if (status == PGRES_FATAL_ERROR) {
        auto error = error_from(result);
        if (expected.table != nullptr)
            error.message = "applying a change of " + expected.table->plain_name() + ": " + error.message;
        return error;
    }
    if (status == PGRES_PIPELINE_ABORTED) return fail(ErrorKind::internal, "the target gave up a batch of changes");
    if (expected.answer == Answer::rows || expected.answer == Answer::one_or_none || expected.answer == Answer::tracked) {
        const std::string_view rows = status == PGRES_TUPLES_OK ? (PQntuples(result) == 1 ? "1" : "0")
                                                                : PQcmdTuples(const_cast<PGresult*>(result));
        if (rows != std::to_string(expected.rows) && (rows != "0" || expected.answer == Answer::rows)) {
            return fail(
                ErrorKind::conflict,
                (expected.rows == 1 ? "a change of " : std::to_string(expected.rows) + " changes of ") +
                    (expected.table != nullptr ? expected.table->plain_name() : std::string("the progress row")) +
                    " hit " + std::string(rows) + " rows on the target instead of " + (expected.rows == 1 ? "one" : "as many"),
                "the target no longer holds what was copied to it",
                "find out who else writes to the target, then start again");
        }
        if (expected.answer == Answer::tracked) tracked_.push_back({expected.table, std::move(expected.key), rows == "1"});
    }
    if (expected.answer == Answer::commit) {
        applied_ = expected.end;
        if (expected.durability == Durability::now) durable_ = expected.end;
    }
    return {};
}

Result<void> Applier::advance() {
    auto* connection = session_->raw();
    if (unsent_) {
        const int left = PQflush(connection);
        if (left < 0) return broken();
        unsent_ = left == 1;
    }
    if (expected_.empty()) return {};
    if (PQconsumeInput(connection) == 0) return broken();
    int separators = 0;
    while (!expected_.empty() && PQisBusy(connection) == 0) {
        const QueryRows result(PQgetResult(connection));
        if (result.raw() == nullptr) {
            // libpq says "no more" between two statements, and for ever when its connection is gone.
            if (!session_->alive() || ++separators > 2)
                return session_->alive() ? Result<void>{} : Result<void>{broken()};
            continue;
        }
        separators = 0;
        PP_TRY(take(result.raw()));
    }
    return {};
}

Result<void> Applier::settle(const Deadline& deadline) {
    PP_TRY(flush_all());
    while (!expected_.empty() || unsent_) {
        PP_TRY(advance());
        if (unsent_) {
            PP_TRY(session_->flush(deadline));
            unsent_ = false;
        }
        if (expected_.empty()) break;
        if (PQisBusy(session_->raw()) == 1) PP_TRY(session_->wait_for(false, deadline));
    }
    return {};
}

}  // namespace pgporter
