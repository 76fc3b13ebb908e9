// After a transaction that may have changed what its session is (a text scan says so), the server is asked what is true now: settings
// that other server connections must get as well, and state that can't be moved (pins). The scan only triggers the question; the answer
// is PostgreSQL's, so a rolled-back SET or a temporary table dropped at commit needs no rule of ours.
#include "base/log.hpp"
#include "proxy/session/session.hpp"

namespace pgporter {

std::string Session::inspection_sql() const {
    std::string sql =
        "SELECT 's', name, setting FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session' "
        "AND name NOT LIKE 'transaction\\_%' AND name OPERATOR(pg_catalog.<>) ALL (ARRAY['seed', 'session_authorization', 'is_superuser', 'role']) "
        "UNION ALL SELECT 'r', 'role', pg_catalog.current_setting('role') "
        "UNION ALL SELECT 'p', 'listen', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) "
        "UNION ALL SELECT 'p', 'temporary_object', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_class "
        "WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) "
        "UNION ALL SELECT 'p', 'hold_cursor', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) "
        "UNION ALL SELECT 'p', 'advisory_lock', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_locks "
        "WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) "
        "UNION ALL SELECT 'p', 'prepare', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)";
    for (const auto& name : custom_settings_) {
        sql += " UNION ALL SELECT 'c', " + sql_literal(name) + ", pg_catalog.current_setting(" + sql_literal(name) + ", true)";
    }
    return sql;
}

void Session::adopt_inspection(const QueryAnswer& answer) {
    Context now;
    now.role = startup_state_.role;
    now.search_path = startup_state_.search_path;  // where it was reset, the session's own beginning is meant
    now.settings = startup_state_.settings;
    std::set<std::string> pins;
    for (const TextRow& row : answer.rows) {
        if (row.size() != 3 || !row[0] || !row[1] || !row[2]) continue;
        const std::string& kind = *row[0];
        if (kind == "p") {
            pins.insert(*row[1]);
        } else if (kind == "r") {
            if (*row[2] != "none") now.role = *row[2];
        } else if (*row[1] == "search_path") {
            now.search_path = *row[2];
        } else {
            put_setting(now.settings, *row[1], *row[2]);
        }
    }
    own_state_ = std::move(now);
    if (pool_mode_ == PoolMode::session) pins.insert("session_pooling");
    if (pins.contains("prepare") || pins_.contains("prepare")) server_->require_discard_all();
    set_pins(std::move(pins));
}

Task<> Session::inspect(std::shared_ptr<Session> self) {
    const ServerPtr server = self->server_;
    self->state_is_suspect_ = false;
    const bool was_reset = std::exchange(self->context_was_reset_, false);
    bool sound = server != nullptr;
    if (sound) {
        self->worker_.shared().session_metrics.settings_inspections.inc();
        if (was_reset) {  // DISCARD ALL: everything of the session's is gone
            self->own_state_ = self->startup_state_;
            self->custom_settings_.clear();
        }
        Result<QueryAnswer> answer = co_await server->query(self->inspection_sql(), server->options().prologue_ms_max);
        sound = answer.has_value();
        if (sound && self->server_ == server) {
            const ContextPtr before = server->context();
            self->adopt_inspection(*answer);
            const bool same = !was_reset && *before == self->own_state_;
            if (!same) server->adopt_context(self->wanted_context());
            // The list says what was set, not what was reset: where the session stays on this connection, the difference is set again.
            if (self->is_pinned()) {
                Result<void> again = co_await server->establish_again(self->wanted_context(), self->id_);
                sound = again.has_value();
            } else if (!same) {
                server->forget_context();
            }
        }
    }
    self->inspecting_ = false;
    if (!sound) {
        log::warning("inspection_failed", {{"session", std::to_string(self->id_.value)}});
        server->close();
    }
    if (self->end_reason_ == EndReason::none && self->server_ == server && sound) {
        self->tell_parameter_changes();
        self->finish_transaction();
    }
    self->wake_.notify();
}

metrics::Gauge& Session::pin_gauge(const std::string& reason) {
    SessionMetrics& metrics = worker_.shared().session_metrics;
    if (reason == "listen") return metrics.pinned_listen;
    if (reason == "temporary_object") return metrics.pinned_temporary_object;
    if (reason == "hold_cursor") return metrics.pinned_hold_cursor;
    if (reason == "advisory_lock") return metrics.pinned_advisory_lock;
    if (reason == "prepare") return metrics.pinned_prepare;
    return metrics.pinned_session_pooling;
}

void Session::set_pins(std::set<std::string> pins) {
    for (const auto& reason : pins_) {
        if (!pins.contains(reason)) pin_gauge(reason).add(-1);
    }
    for (const auto& reason : pins) {
        if (!pins_.contains(reason)) pin_gauge(reason).add(1);
    }
    if (desk_ != nullptr && pins_.empty() != pins.empty()) {
        if (pins.empty()) {
            desk_->unpin();
        } else {
            desk_->pin();
        }
    }
    pins_ = std::move(pins);
}

}  // namespace pgporter
