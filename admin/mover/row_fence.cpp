#include "admin/mover/row_fence.hpp"

#include <set>

#include "admin/mover/fence.hpp"
#include "admin/mover/move_names.hpp"
#include "catalog/fence_words.hpp"

namespace pgporter {
namespace {

constexpr int install_attempts_max = 8;  // some seconds; then the cutover gives way, and says why

// Of one table, for one kind of change each.
constexpr const char* write_suffix = "_write";        // rows that are the tenant's now
constexpr const char* leave_suffix = "_leave";        // rows that were the tenant's
constexpr const char* delete_suffix = "_delete";
constexpr const char* truncate_suffix = "_truncate";  // everybody's

std::string function_of(const MoveServers& servers) {
    return quote_ident(servers.artefact()) + "." + quote_ident(servers.fence());
}

// Clones on partitions are told apart by their parents; all that counts is in the text.
std::string triggers_text(const MoveServers& servers) {
    return "SELECT coalesce(string_agg(t.tgrelid || ':' || t.tgname || ':' || t.tgenabled::text || ':' || md5(coalesce(t.tgqual::text, '')), ' ' "
           "ORDER BY t.tgrelid, t.tgname), '') FROM pg_trigger t WHERE starts_with(t.tgname, " +
           quote_literal(servers.fence() + "_") + ")";
}

std::string create_trigger(const SourceTable& table, const MoveServers& servers, const char* suffix, const std::string& when) {
    const auto name = quote_ident(servers.fence() + suffix);
    return "CREATE TRIGGER " + name + " " + when + " EXECUTE FUNCTION " + function_of(servers) + "(); ALTER TABLE " +
           (table.partitioned ? "" : "ONLY ") + table.qualified_name() + " ENABLE ALWAYS TRIGGER " + name + "; ";
}

// A partition gets its row triggers from its root, also one that is made later.
std::string trigger_statements(const SourceTable& table, const MoveServers& servers) {
    if (!table.tenant_column) return {};
    const auto on = " ON " + table.qualified_name();
    std::string statements;
    if (!table.partition) {
        const auto column = quote_ident(table.columns[*table.tenant_column].name);
        const auto is_new = "NEW." + column + " = " + table.tenant_literal;
        const auto was_old = "OLD." + column + " = " + table.tenant_literal;
        statements += create_trigger(table, servers, write_suffix, "AFTER INSERT OR UPDATE" + on + " FOR EACH ROW WHEN (" + is_new + ")");
        statements += create_trigger(table, servers, leave_suffix,
                                     "AFTER UPDATE" + on + " FOR EACH ROW WHEN (" + was_old + " AND (" + is_new + ") IS NOT TRUE)");
        statements += create_trigger(table, servers, delete_suffix, "AFTER DELETE" + on + " FOR EACH ROW WHEN (" + was_old + ")");
    }
    if (!table.partitioned) statements += create_trigger(table, servers, truncate_suffix, "BEFORE TRUNCATE" + on + " FOR EACH STATEMENT");
    return statements;
}

}  // namespace

Result<void> create_row_fence(ServerSession& source, const MoveServers& servers) {
    const auto schema = quote_ident(servers.artefact());
    const auto gate = schema + ".gate";
    const auto& rows = *servers.rows();
    // The application has no rights here, so the function runs with ours, and finds nothing but what it names.
    // Whoever applies the other way says so (Applier::connect); the mover's role alone, in other hands, may not write.
    const auto body = "DECLARE is_fenced boolean;\nBEGIN\n  IF session_user = " + quote_literal(servers.config().mover.user) +
                      " AND current_setting('" + applies_setting + "', true) = " + quote_literal(servers.opposite_artefact()) +
                      " THEN RETURN NULL; END IF;\n  SELECT fenced INTO STRICT is_fenced FROM " + gate + " FOR SHARE;\n" +
                      "  IF is_fenced THEN\n    RAISE EXCEPTION USING ERRCODE = '" + fence_sqlstate +
                      "', MESSAGE = 'tenant has moved to another database',\n"
                      "    DETAIL = CASE TG_OP WHEN 'TRUNCATE' THEN " + quote_literal(row_fence_truncate_detail) + " ELSE " +
                      quote_literal(row_fence_detail(rows.key)) + " END,\n"
                      "    HINT = 'Connect through pgporter, which knows where the tenant lives.';\n  END IF;\n  RETURN NULL;\nEND";
    // The comment is for whoever may not read the gate: an instance that is cut off from the catalog (proxy/session/session_fence.cpp).
    const auto close = "BEGIN\n  UPDATE " + gate + " SET fenced = true, closed_at = clock_timestamp();\n  EXECUTE format('COMMENT ON TABLE " + gate +
                       " IS %L', 'fenced ' || md5(" + quote_literal(rows.key) + "));\n  IF (" + triggers_text(servers) +
                       ") IS DISTINCT FROM known THEN\n    RAISE EXCEPTION USING ERRCODE = '" + drift_sqlstate +
                       "', MESSAGE = 'the triggers of the fence have changed';\n  END IF;\nEND";
    const auto unchanged = std::string("BEGIN\n  IF present IS DISTINCT FROM known THEN\n    RAISE EXCEPTION USING ERRCODE = '") +
                           drift_sqlstate + "', MESSAGE = 'the definition of the schema has changed';\n  END IF;\nEND";
    const auto text =
        "CREATE SCHEMA " + schema + "; CREATE TABLE " + gate +
        " (singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton), fenced boolean NOT NULL, emptied boolean NOT NULL DEFAULT false, "
        "closed_at timestamptz, tenant_column text NOT NULL, tenant_key text NOT NULL); INSERT INTO " + gate +
        " (fenced, tenant_column, tenant_key) VALUES (false, " + quote_literal(rows.column) + ", " +
        quote_literal(rows.key) + "); CREATE FUNCTION " + function_of(servers) +
        "() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS " + quote_literal(body) + "; CREATE FUNCTION " +
        schema + ".close_gate(known text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS " + quote_literal(close) +
        "; CREATE FUNCTION " + schema +
        ".expect_unchanged(known text, present text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS " + quote_literal(unchanged);
    return locked_transaction(source, servers.config().mover.lock_timeout_ms, text);
}

Result<void> install_row_fence(ServerSession& source, const MoveServers& servers, const std::vector<SourceTable>& tables) {
    check_deadlocks_early(source);
    auto there = source.exec("SELECT DISTINCT tgrelid FROM pg_trigger WHERE starts_with(tgname, $1) AND tgparentid = 0",
                             {servers.fence() + "_"});
    if (!there) return there.error();
    std::set<std::uint32_t> done;
    for (int row = 0; row < there->count(); ++row) done.insert(static_cast<std::uint32_t>(there->number(row, 0)));
    for (const auto& table : tables) {
        const auto statements = trigger_statements(table, servers);
        if (statements.empty() || done.contains(table.oid)) continue;
        auto installed = retry_locks(servers.interrupt(), install_attempts_max,
                                     [&] { return locked_transaction(source, servers.config().mover.lock_timeout_ms, statements); });
        if (installed) continue;
        auto error = installed.error();
        error.message = "the fence couldn't be installed on " + table.plain_name() + ": " + error.message;
        return error;
    }
    return {};
}

Result<std::string> close_gate_statement(ServerSession& source, const MoveServers& servers) {
    auto rows = source.exec(triggers_text(servers));
    if (!rows) return rows.error();
    return "SELECT " + quote_ident(servers.artefact()) + ".close_gate(" + quote_literal(rows->text(0, 0)) + ")";
}

std::string open_gate_statement(const MoveServers& servers) {
    const auto gate = quote_ident(servers.artefact()) + ".gate";
    return "UPDATE " + gate + " SET fenced = false WHERE fenced; COMMENT ON TABLE " + gate + " IS NULL";
}

Result<void> open_gate(ServerSession& source, const MoveServers& servers) {
    return locked_transaction(source, servers.config().mover.lock_timeout_ms, open_gate_statement(servers));
}

// An instance decides where a transaction goes when it has a connection there, and within `late_writer_ms` of the flip it has heard of
// it, or asks the gate. So whoever still means to write has a connection that has been silent since then.
Result<std::string> find_late_writers(ServerSession& source, const MoveServers& servers) {
    const auto gate = quote_ident(servers.artefact()) + ".gate";
    const auto known_at = "(g.closed_at + interval '" + std::to_string(servers.config().mover.late_writer_ms.count()) + " ms')";
    auto rows = source.exec(
        "SELECT coalesce(clock_timestamp() < " + known_at + ", false), count(a.pid), count(a.pid) FILTER (WHERE a.state_change IS NULL), string_agg(format('pid %s (%s%s)', "
        "a.pid, coalesce(a.usename, '?'), ', ' || nullif(a.application_name, '')), ', ' ORDER BY a.pid) FROM " + gate +
        " AS g LEFT JOIN pg_stat_activity AS a ON a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() "
        "AND a.usename <> session_user AND (a.state_change < " + known_at + " OR a.state_change IS NULL) GROUP BY 1");
    if (!rows) return rows.error();
    if (rows->empty()) return fail(ErrorKind::internal, "the gate of the move has lost its row");
    if (rows->number(0, 2) > 0) {
        return std::string("the mover's role may not see since when connections to the source are silent: GRANT pg_read_all_stats TO ") +
               quote_ident(servers.config().mover.user) + " there";
    }
    if (rows->number(0, 1) > 0) {
        return rows->string(0, 1) + " connections to the source database have been silent since the flip: " + rows->string(0, 3) +
               "; through one of them an instance that hasn't heard of it could still write the tenant's rows there";
    }
    return rows->flag(0, 0) ? std::string("some seconds after the flip an instance may not have heard of it yet") : std::string();
}

// The gate itself stays closed, and costs nobody anything: an instance that doesn't hear from the catalog asks it.
Result<void> leave_gate(ServerSession& source, const MoveServers& servers) {
    const auto schema = quote_ident(servers.artefact());
    return locked_transaction(source, servers.config().mover.lock_timeout_ms,
                              "DROP FUNCTION IF EXISTS " + function_of(servers) + "(), " + schema + ".close_gate(text), " + schema +
                                  ".expect_unchanged(text, text)");
}

Result<void> drop_left_gates(ServerSession& shared, const MoveServers& servers) {
    auto gates = shared.exec(
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'gate' AND n.nspname ~ '^pgporter_(move|back)_' "
        "AND pg_get_userbyid(c.relowner) = session_user AND obj_description(c.oid, 'pg_class') = 'fenced ' || md5($1) AND n.nspname <> ALL ($2::text[])",
        {servers.rows()->key, to_array_literal({servers.artefact(), servers.opposite_artefact()})});
    if (!gates) return gates.error();
    for (int row = 0; row < gates->count(); ++row) {
        PP_TRY(locked_transaction(shared, servers.config().mover.lock_timeout_ms, "DROP SCHEMA " + quote_ident(gates->text(row, 0)) + " CASCADE"));
    }
    return {};
}

Result<void> note_emptied(ServerSession& source, const MoveServers& servers) {
    auto noted = source.exec("UPDATE " + quote_ident(servers.artefact()) + ".gate SET emptied = true");
    if (!noted) return noted.error();
    return {};
}

Result<std::optional<Gate>> read_gate(ServerSession& source, const std::string& artefact) {
    const auto name = quote_ident(artefact) + ".gate";
    auto exists = source.exec("SELECT to_regclass(" + quote_literal(name) + ") IS NOT NULL");
    if (!exists) return exists.error();
    if (!exists->flag(0, 0)) return std::optional<Gate>();
    auto rows = source.exec("SELECT fenced, emptied, tenant_column, tenant_key FROM " + name);
    if (!rows) return rows.error();
    if (rows->count() != 1) return fail(ErrorKind::internal, "the gate of the move has lost its row");
    return std::optional(Gate{rows->flag(0, 0), rows->flag(0, 1), rows->string(0, 2), rows->string(0, 3)});
}

Result<std::vector<std::uint32_t>> read_fenced_tables(ServerSession& source, const MoveServers& servers) {
    auto rows = source.exec(
        "SELECT c.oid FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE t.tgname = $1 AND c.relkind = 'r' ORDER BY c.oid",
        {servers.fence() + write_suffix});
    if (!rows) return rows.error();
    std::vector<std::uint32_t> tables;
    for (int row = 0; row < rows->count(); ++row) tables.push_back(static_cast<std::uint32_t>(rows->number(row, 0)));
    return tables;
}

}  // namespace pgporter
