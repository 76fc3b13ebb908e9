#include "admin/mover/fence.hpp"

#include <libpq-fe.h>

#include <algorithm>

#include "admin/mover/move_names.hpp"
#include "admin/mover/row_fence.hpp"

namespace pgporter {
namespace {

constexpr int lock_attempts_max = 600;

std::string trigger_statement(const SourceTable& table, const std::string& fence, const char* act) {
    return "ALTER TABLE ONLY " + table.qualified_name() + " " + act + " TRIGGER " + quote_ident(fence);
}

// Names of tables that have this fence's triggers, with tgenabled.
Result<QueryRows> read_triggers(ServerSession& source, const std::string& fence) {
    return source.exec(
        "SELECT n.nspname, c.relname, t.tgenabled, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE (t.tgname = $1 OR starts_with(t.tgname, $1 || '_')) "
        "AND NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY c.oid, t.tgname",
        {fence});
}

Result<std::string> disable_statements(ServerSession& source, const MoveServers& servers) {
    auto rows = read_triggers(source, servers.fence());
    if (!rows) return rows.error();
    std::string statements;
    for (int row = 0; row < rows->count(); ++row) {
        if (rows->text(row, 2) == "D") continue;
        statements += (statements.empty() ? "" : "; ") + std::string("ALTER TABLE ONLY ") +
                      qualified(rows->text(row, 0), rows->text(row, 1)) + " DISABLE TRIGGER " +
                      quote_ident(servers.fence());
    }
    return statements;
}

// Loads the tables into the session's caches: done in the pause, that alone would take half a millisecond each.
Result<void> know_tables(ServerSession& session, const std::vector<std::string>& qualified_names) {
    std::string text;
    for (const auto& name : qualified_names) text += "EXPLAIN SELECT FROM ONLY " + name + "; ";
    if (!text.empty()) PP_TRY(session.exec(text));
    return {};
}

// Only shared tables have one.
Result<std::optional<Gate>> gate_of(ServerSession& source, const MoveServers& servers) {
    if (!servers.shared_source()) return std::optional<Gate>();
    return read_gate(source, servers.artefact());
}

}  // namespace

void check_deadlocks_early(ServerSession& session) {
    const auto tried = session.exec("SET deadlock_timeout = '10ms'");
    static_cast<void>(tried);
}

Result<void> retry_locks(const Interrupt& interrupt, int attempts_max, const std::function<Result<void>()>& attempt) {
    std::chrono::milliseconds pause{20};
    // The pause must also end for a stop, though not wake for a cancel while undoing: wait on the same descriptors as
    // everything else.
    for (int tries = 1;; ++tries) {
        auto done = attempt();
        if (done) return {};
        const auto kind = done.error().kind;
        if ((kind != ErrorKind::timeout && kind != ErrorKind::conflict) || tries >= attempts_max) return done;
        if (interrupt.heard()) return interrupt.error();
        const auto ends = interrupt.fds();
        std::array<pollfd, 2> entries{ends[0], ends[1]};
        ::poll(entries.data(), entries.size(), static_cast<int>(pause.count()));
        pause = std::min(pause * 2, std::chrono::milliseconds(1'000));
    }
}

Result<void> locked_transaction(ServerSession& session, std::chrono::milliseconds lock_timeout,
                                const std::string& statements) {
    auto done = session.exec("BEGIN; SET LOCAL lock_timeout = " + std::to_string(lock_timeout.count()) + "; " +
                             statements + "; COMMIT");
    if (done) return {};
    if (session.alive()) {
        const auto rolled_back = session.exec("ROLLBACK");
        static_cast<void>(rolled_back);  // the statement's error is the one to tell
    }
    return done.error();
}

Result<void> create_fence_function(ServerSession& source, const MoveServers& servers) {
    const auto schema = quote_ident(servers.artefact());
    const auto function = schema + "." + quote_ident(servers.fence());
    const auto text =
        "CREATE SCHEMA " + schema + "; CREATE FUNCTION " + function +
        "() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS " +
        quote_literal(
            // Whoever applies the way back says so (Applier::connect); the mover's role alone, in other hands, may not write.
            "BEGIN\n"
            "  IF session_user = " +
            quote_literal(servers.config().mover.user) + " AND current_setting('" + applies_setting + "', true) = " +
            quote_literal(servers.opposite_artefact()) +
            " THEN RETURN NULL; END IF;\n"
            "  RAISE EXCEPTION USING ERRCODE = '" +
            fence_sqlstate +
            "', MESSAGE = 'tenant has moved to another database',\n"
            "    DETAIL = 'The tables of this schema no longer take writes here.',\n"
            "    HINT = 'Connect through pgporter, which knows where the tenant lives.';\n"
            "END") +
        "; CREATE FUNCTION " + schema +
        ".expect_unchanged(known text, present text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS " +
        quote_literal(std::string("BEGIN\n"
                                  "  IF present IS DISTINCT FROM known THEN\n"
                                  "    RAISE EXCEPTION USING ERRCODE = '") +
                      drift_sqlstate + "', MESSAGE = 'the definition of the schema has changed';\n  END IF;\nEND");
    return locked_transaction(source, servers.config().mover.lock_timeout_ms, text);
}

Result<void> install_fence_triggers(ServerSession& source, const MoveServers& servers,
                                    const std::vector<SourceTable>& tables) {
    check_deadlocks_early(source);
    const auto function = quote_ident(servers.artefact()) + "." + quote_ident(servers.fence());
    for (const auto& table : tables) {
        // One that a crash takes away is missed when it is to be enabled, and nothing has happened: no need to wait for the disk.
        const auto statements = "SET LOCAL synchronous_commit = off; CREATE TRIGGER " + quote_ident(servers.fence()) +
                                " BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON " + table.qualified_name() +
                                " FOR EACH STATEMENT EXECUTE FUNCTION " + function + "(); " +
                                trigger_statement(table, servers.fence(), "DISABLE");
        auto done = retry_locks(servers.interrupt(), lock_attempts_max, [&] {
            return locked_transaction(source, servers.config().mover.lock_timeout_ms, statements);
        });
        if (!done) {
            auto error = done.error();
            error.message = "the fence couldn't be prepared on " + table.plain_name() + ": " + error.message;
            return error;
        }
    }
    return {};
}

Result<FenceSession> FenceSession::prepare(const MoveServers& servers, const std::vector<SourceTable>& tables,
                                           const std::string& signature_query,
                                           const std::vector<SequenceValue>& sequences) {
    FenceSession fence;
    auto session = servers.source();
    if (!session) return session.error();
    fence.session_ = std::move(*session);
    auto& source = *fence.session_;
    check_deadlocks_early(source);
    const auto schema = quote_ident(servers.artefact());
    PP_TRY(source.exec(
        "SET synchronous_commit = on; SET plan_cache_mode = force_generic_plan; PREPARE drift(text) AS SELECT " +
        schema + ".expect_unchanged($1, (" + signature_query + ")); PREPARE sequences AS " +
        sequence_values_query(sequences) + "; PREPARE mark(text) AS SELECT pg_logical_emit_message(true, " +
        quote_literal(servers.artefact()) + ", $1)"));
    // Planned now, with the catalogs it reads in the caches: the pause pays only for the work.
    auto signature = source.exec(signature_query);
    if (!signature) return signature.error();
    PP_TRY(source.exec("EXECUTE drift(" + quote_literal(signature->text(0, 0)) + "); EXECUTE sequences"));

    if (servers.shared_source()) {
        auto statement = close_gate_statement(source, servers);
        if (!statement) return statement.error();
        fence.lock_statement_ = *std::move(statement);
        return fence;
    }
    std::vector<std::string> names;
    for (const auto& table : tables) names.push_back(table.qualified_name());
    PP_TRY(know_tables(source, names));
    for (const auto& table : tables) {
        fence.lock_statement_ +=
            (fence.lock_statement_.empty() ? "LOCK TABLE ONLY " : ", ONLY ") + table.qualified_name();
        fence.enable_statements_.push_back(trigger_statement(table, servers.fence(), "ENABLE ALWAYS"));
    }
    if (!fence.lock_statement_.empty()) fence.lock_statement_ += " IN SHARE ROW EXCLUSIVE MODE";
    return fence;
}

Result<void> FenceSession::queue(const std::string& signature, const std::string& marker,
                                 std::chrono::milliseconds lock_timeout) {
    auto* connection = session_->raw();
    const auto statement = [&](const std::string& sql) {
        return PQsendQueryParams(connection, sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0) == 1;
    };
    const auto prepared = [&](const char* name, const std::vector<const char*>& values) {
        return PQsendQueryPrepared(connection, name, static_cast<int>(values.size()), values.data(), nullptr, nullptr,
                                   0) == 1;
    };
    bool sent = PQenterPipelineMode(connection) == 1 && statement("BEGIN") &&
                statement("SET LOCAL lock_timeout = " + std::to_string(lock_timeout.count()));
    if (!lock_statement_.empty()) sent = sent && statement(lock_statement_);
    for (const auto& sql : enable_statements_) sent = sent && statement(sql);
    sent = sent && prepared("drift", {signature.c_str()}) && prepared("sequences", {}) &&
           prepared("mark", {marker.c_str()}) && statement("COMMIT") && PQpipelineSync(connection) == 1;
    if (!sent) return fail(ErrorKind::unavailable, "the connection to the source broke", PQerrorMessage(connection));
    return session_->flush(std::nullopt);
}

Result<FenceSession::Outcome> FenceSession::enable(const std::string& signature, const std::string& marker,
                                                   std::chrono::milliseconds lock_timeout, Deadline deadline) {
    PP_TRY(queue(signature, marker, lock_timeout));
    Outcome outcome;
    std::optional<Error> failure;
    std::size_t answers = 0;
    const std::size_t sequences_answer = 2 + (lock_statement_.empty() ? 0U : 1U) + enable_statements_.size() + 1;
    for (;;) {
        auto next = session_->next_result(deadline);
        if (!next) return fail(ErrorKind::unavailable, next.error().message, next.error().detail);
        if (*next == nullptr) {  // between two statements
            if (!session_->alive()) return fail(ErrorKind::unavailable, "the connection to the source broke");
            continue;
        }
        const QueryRows rows(*next);
        const auto status = PQresultStatus(rows.raw());
        if (status == PGRES_PIPELINE_SYNC) break;
        if (status == PGRES_FATAL_ERROR && !failure) failure = error_from(rows.raw());
        if (status == PGRES_TUPLES_OK && answers == sequences_answer) outcome.sequences = sequence_values(rows);
        ++answers;
    }
    PQexitPipelineMode(session_->raw());
    if (!failure) return outcome;
    if (!session_->alive() || failure->sqlstate.empty())
        return fail(ErrorKind::unavailable, failure->message, failure->detail);
    // The transaction failed before its COMMIT was reached, which was therefore skipped.
    PP_TRY(session_->exec("ROLLBACK", after(std::chrono::seconds(2))));
    if (failure->sqlstate == drift_sqlstate) failure->kind = ErrorKind::conflict;
    if (failure->sqlstate == "40P01") failure->kind = ErrorKind::timeout;
    return *failure;
}

Result<FenceState> read_fence_state(ServerSession& source, const MoveServers& servers) {
    auto gate = gate_of(source, servers);
    if (!gate) return gate.error();
    if (*gate) return (*gate)->fenced ? FenceState::enabled : FenceState::disabled;
    auto rows = read_triggers(source, servers.fence());
    if (!rows) return rows.error();
    if (rows->empty()) return FenceState::absent;
    for (int row = 0; row < rows->count(); ++row) {
        if (rows->text(row, 2) == "A") return FenceState::enabled;
    }
    return FenceState::disabled;
}

Result<void> disable_fence(ServerSession& source, const MoveServers& servers) {
    check_deadlocks_early(source);
    auto gate = gate_of(source, servers);
    if (!gate) return gate.error();
    if (*gate) {
        return retry_locks(servers.interrupt(), lock_attempts_max, [&] { return open_gate(source, servers); });
    }
    return retry_locks(servers.interrupt(), lock_attempts_max, [&]() -> Result<void> {
        auto statements = disable_statements(source, servers);
        if (!statements) return statements.error();
        if (statements->empty()) return {};
        return locked_transaction(source, servers.config().mover.lock_timeout_ms, *statements);
    });
}

Result<FenceLifter> FenceLifter::prepare(const MoveServers& servers) {
    FenceLifter lifter;
    auto session = servers.source();
    if (!session) return session.error();
    lifter.session_ = std::move(*session);
    check_deadlocks_early(*lifter.session_);
    PP_TRY(lifter.session_->exec("SET synchronous_commit = on"));
    auto statements = servers.shared_source() ? Result<std::string>(open_gate_statement(servers)) : disable_statements(*lifter.session_, servers);
    if (!statements) return statements.error();
    auto triggers = read_triggers(*lifter.session_, servers.fence());
    if (!triggers) return triggers.error();
    std::vector<std::string> names;
    for (int row = 0; row < triggers->count(); ++row) names.push_back(qualified(triggers->text(row, 0), triggers->text(row, 1)));
    PP_TRY(know_tables(*lifter.session_, names));
    lifter.statements_ = "BEGIN; SET LOCAL lock_timeout = " + std::to_string(servers.config().mover.lock_timeout_ms.count()) +
                         (statements->empty() ? "" : "; " + *statements);
    return lifter;
}

Result<void> FenceLifter::lift(Deadline deadline) {
    auto done = session_->exec(statements_, deadline);
    if (done) return {};
    put_back();
    return done.error();
}

void FenceLifter::put_back() {
    if (!session_->alive()) return;
    const auto rolled_back = session_->exec("ROLLBACK", after(std::chrono::seconds(2)));
    static_cast<void>(rolled_back);  // else the connection's end does it
}

Result<void> FenceLifter::commit(Deadline deadline) {
    PP_TRY(session_->exec("COMMIT", deadline));
    return {};
}

Result<void> drop_fence_triggers(ServerSession& source, const MoveServers& servers) {
    auto rows = read_triggers(source, servers.fence());
    if (!rows) return rows.error();
    check_deadlocks_early(source);
    // One table at a time: dropping a trigger locks readers out for its moment.
    for (int row = 0; row < rows->count(); ++row) {
        const auto statement = "DROP TRIGGER IF EXISTS " + quote_ident(rows->text(row, 3)) + " ON " +
                               qualified(rows->text(row, 0), rows->text(row, 1));
        PP_TRY(retry_locks(servers.interrupt(), lock_attempts_max, [&] {
            return locked_transaction(source, servers.config().mover.lock_timeout_ms, statement);
        }));
    }
    return {};
}

}  // namespace pgporter
