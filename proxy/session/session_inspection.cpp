// After a transaction that may have changed what its session is (a text scan says so), the server is asked what is true now: settings
// that other server connections must get as well, and state that can't be moved (pins). The scan only triggers the question; the answer
// is PostgreSQL's, so a rolled-back SET or a temporary table dropped at commit needs no rule of ours.
#include "base/log.hpp"
#include "proxy/session/foreign_tenant.hpp"
#include "proxy/session/session.hpp"
#include "router/sql_lexer.hpp"
#include "proxy/session/tenant_context.hpp"

#include <boost/asio/steady_timer.hpp>

namespace pgporter {
namespace {

// Both have the same role and path, and every setting of either is in the other.
bool has_all_of(const ServerConnection& server, const Context& actual, const Context& wanted) {
    if (actual.role != wanted.role || actual.search_path != wanted.search_path) return false;
    if (actual.has_empty_path != wanted.has_empty_path) return false;
    const auto is_wanted = [&](const auto& setting) { return find_setting(wanted.settings, setting.first) != nullptr; };
    if (!std::all_of(actual.settings.begin(), actual.settings.end(), is_wanted)) return false;
    for (const auto& [name, value] : wanted.settings) {
        const std::string* held = find_setting(actual.settings, name);
        const bool is_so = held != nullptr ? *held == value : server.is_reported_as(name, value);
        if (!is_so) return false;
    }
    return true;
}

char of_hex(char digit) {
    return static_cast<char>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

// Answers come in the client's encoding; names and values that matter here were asked for as UTF-8, in hexadecimal digits.
void to_utf8(QueryAnswer& answer) {
    for (TextRow& row : answer.rows) {
        for (std::size_t i = 1; i < row.size(); ++i) {
            if (!row[i]) continue;
            std::string text;
            for (std::size_t at = 0; at + 1 < row[i]->size(); at += 2) text += static_cast<char>(of_hex((*row[i])[at]) << 4 | of_hex((*row[i])[at + 1]));
            row[i] = std::move(text);
        }
    }
}

}  // namespace

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
    std::set<std::string> names = custom_settings_;
    for (const auto& [name, value] : named_.view().persistent) {
        if (name.find('.') != std::string::npos) names.insert(name);
    }
    for (const auto& name : names) {
        const std::string literal = ascii_sql_literal(name);
        sql += " UNION ALL SELECT 'c', " + literal + ", pg_catalog.current_setting(" + literal + ", true)";
    }
    if (dialect().encoding == SqlEncoding::utf8) return sql;
    const auto in_hex = [](std::string_view column) {
        return ", pg_catalog.encode(pg_catalog.convert_to(" + std::string(column) + ", 'UTF8'), 'hex')";
    };
    return "SELECT kind" + in_hex("name") + in_hex("value") + " FROM (" + sql + ") AS state (kind, name, value)";
}

// Returns what the server connection really has; own_state_ becomes what the session shall have. Where something was reset, the session's
// own beginning is meant.
Context Session::adopt_inspection(const QueryAnswer& answer) {
    Context actual;
    OwnSettings own;
    ScopedSettings::Values named;
    std::set<std::string> pins;
    for (const TextRow& row : answer.rows) {
        if (row.size() != 3 || !row[0] || !row[1] || !row[2]) continue;
        const std::string& kind = *row[0];
        const std::string& name = *row[1];
        const std::string& value = *row[2];
        if (kind == "p") {
            pins.insert(name);
        } else if (kind == "r") {
            if (value != "none") actual.role = value;
            if (value != "none" && value != startup_state_->role) own.role = value;
        } else if (name == "search_path") {
            actual.search_path = value;
            actual.has_empty_path = value.empty();
            // Or as it began for whoever was in force when it was reset.
            const bool is_login_path = value == startup_state_->search_path && actual.has_empty_path == startup_state_->has_empty_path;
            const bool is_as_it_began = is_login_path || (path_of_reset_ && value == *path_of_reset_);
            if (!is_as_it_began || find_value(named_.view().persistent, name) != nullptr) named.emplace_back(name, value);
        } else {
            put_setting(actual.settings, name, value);
            const std::string* began = find_setting(startup_state_->settings, name);
            const bool is_as_it_began = began != nullptr && *began == value;
            if (names_tenants(worker_.config().identify, folded(name))) {
                if (!value.empty() && !is_as_it_began) named.emplace_back(folded(name), value);
            } else if (!is_as_it_began || find_setting(own_.settings, name) != nullptr) {
                put_setting(own.settings, name, value);
            }
        }
    }
    own_ = std::move(own);
    std::size_t own_bytes = 0;
    for (const auto& [name, value] : own_.settings) own_bytes += name.size() + value.size();
    own_share_.resize(memory_account(), own_bytes > uncounted_bytes_max ? 3 * own_bytes : 0);
    if (replies_.status() == 'I') {
        named_.reset(std::move(named));
        route_is_stale_ = true;
    }
    own_state_ = session_state();
    if (pool_mode_ == PoolMode::session) pins.insert("session_pooling");
    if (pins.contains("prepare") || pins_.contains("prepare")) server_->require_discard_all();
    if (replies_.status() == 'I') set_pins(std::move(pins));  // in a transaction it may still be rolled back
    return actual;
}

// Set in a way that no look at the text could see: the tenant of somewhere else, or of nobody.
std::optional<Error> Session::lost_tenant() const {
    if (!names_in_sql()) return names_foreign_tenant(own_state_->search_path, *worker_.snapshot(), standpoint());
    const HeldTransaction::World here = world();
    const Result<std::string> tenant = tenant_in_force(here.config, here.snapshot, here.asker, named_.view().effective);
    if (!tenant) return tenant.error();
    if (*tenant == tenant_name_ || !is_pinned()) return std::nullopt;
    return client_error::tenant_while_pinned(*tenant, *pins_.begin());
}

// A question of our own that the client's late cancel must not hit. No further cancel is sent while it is under way; those that were sent are waited
// for, since the failure of our question would undo the client's transaction. What still slips through is asked again.
Task<Result<QueryAnswer>> Session::ask_undisturbed(ServerPtr server, std::string sql, Milliseconds quarantine_ms_max) {
    constexpr int tries_max = 5;
    constexpr Milliseconds look_again_ms{1};
    const auto until = std::chrono::steady_clock::now() + quarantine_ms_max;
    asio::steady_timer timer(server->thread().executor());
    for (int tries = 1;; ++tries) {
        while (server->cancels_in_flight != 0 && server->is_alive() && std::chrono::steady_clock::now() < until) {
            timer.expires_after(look_again_ms);
            [[maybe_unused]] const auto [stopped] = co_await timer.async_wait(as_result);
        }
        Result<QueryAnswer> answer = co_await server->query(sql, server->options().prologue_ms_max);
        const bool was_hit = !answer && answer.error().sqlstate == "57014";
        if (!was_hit || tries == tries_max) co_return answer;
    }
}

Task<> Session::inspect(std::shared_ptr<Session> self) {
    const ServerPtr server = self->server_;
    bool sound = server != nullptr;
    std::optional<Error> left;
    if (sound) {
        self->worker_.shared().session_metrics.settings_inspections.inc();
        if (std::exchange(self->context_was_reset_, false)) {  // DISCARD ALL: everything of the session's is gone
            self->own_ = {};
            self->reset_named();
            self->own_state_ = self->session_state();
            self->custom_settings_.clear();
        }
        const bool is_in_hex = self->dialect().encoding != SqlEncoding::utf8;
        Result<QueryAnswer> answer = co_await ask_undisturbed(server, self->inspection_sql(), self->worker_.config().limits.cancel_ms_max);
        sound = answer.has_value();
        if (sound && is_in_hex) to_utf8(*answer);
        if (sound && self->server_ == server) {
            const Context actual = self->adopt_inspection(*answer);
            left = left_access(self->access_, actual.role.empty() ? self->startup_state_->role : actual.role,
                               find_setting(actual.settings, self->access_.setting));
            const bool in_transaction = self->replies_.status() != 'I';
            // What the transaction has for itself alone isn't the session's, and is left as it is.
            const bool is_its_own = in_transaction && (self->has_turned_ || self->named_.view().effective != self->named_.view().persistent);
            if (is_its_own) {
                // Asked again at its end.
            } else if (has_all_of(*server, actual, *self->own_state_)) {
                server->adopt_context(self->wanted_context());
            } else if (in_transaction || self->is_pinned()) {
                // What was reset is set to the session's beginning again, at once: the session stays on this connection.
                Result<void> again = co_await server->establish_again(self->wanted_context(), self->id_);
                sound = again.has_value();
            } else {
                server->forget_context();
            }
            self->state_is_suspect_ = in_transaction;  // asked again at its end
            self->goes_back_ = false;
        }
    }
    self->inspecting_ = false;
    if (!sound) {
        log::warning("inspection_failed", {{"session", std::to_string(self->id_.value)}});
        if (server) server->close();
    }
    if (self->end_reason_ == EndReason::none) {
        if (!left) left = self->lost_tenant();
        if (!left && self->own_share_.bytes() != 0 && !self->memory_account().has_room(0)) left = client_error::out_of_memory();
        if (left) self->end(EndReason::protocol_violation, &*left);
    }
    if (self->end_reason_ == EndReason::none && self->server_ == server && sound) {
        self->tell_parameter_changes();
        if (self->replies_.status() == 'I') self->finish_transaction();
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
    if (server_ && pins_.contains("temporary_object") != pins.contains("temporary_object")) server_->statements().renew(worker_.next_moment());
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
