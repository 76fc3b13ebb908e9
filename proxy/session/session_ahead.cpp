// The prologue ahead of the client's first bytes (decision 0019): a lease of a server connection that last served somebody else begins without
// waiting for it. What leaves with it is one turn of the uplink and at most one batch; all that follows waits for the proof.
#include "base/assert.hpp"
#include "proxy/session/prologue_ahead.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/error_response.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {

// Where something must be known before the client's bytes may be sent, or may not fit into one turn, the prologue is awaited.
bool Session::may_go_ahead(const ServerConnection& server) const {
    if (pool_mode_ != PoolMode::transaction || partial_ != Partial::none || resetting_ || held_.state() != HeldTransaction::State::none) return false;
    if (!server.may_go_ahead() || !client_reported_ || !speaks_alike(server) || dialect().encoding != SqlEncoding::utf8) return false;
    return pool_->fresh_parameters() != nullptr && !must_ask_fence();
}

void Session::begin_ahead() {
    is_ahead_due_ = parameters_untold_ = true;
    has_barrier_ = true;  // should it fail, no more than one batch is to be sent again
    must_set_again_ = false;
    binding_.reset();
    held_.hand_over();
}

void Session::put_prologue_ahead() {
    is_ahead_due_ = false;
    PP_ASSERT(server_ && worker_.to_server().bytes().empty());
    const ServerConnection::Wipe wipe = server_->go_ahead(wanted_context(), id_);
    std::string& staged = worker_.to_server().stage();
    if (!context_->messages) context_->messages = worker_.setting_messages().find_or_make(*context_);
    append_prologue_ahead(*context_->messages, wipe, staged);
    ahead_bytes_ = staged.size();
    is_turn_ahead_ = true;
}

// Nothing else makes the server say what it owes so far.
void Session::ask_for_proof() {
    if (!server_ || !server_->owes_proof() || server_->is_establishing_late() || replies_.ends_with_ready()) return;
    const auto flush = frame_header('H', 0);
    worker_.to_server().put_copy(std::string_view(flush.data(), flush.size()));
}

// PostgreSQL takes no notice of a cancel that comes before it has begun to read what was sent. While nothing has come back, that may have happened,
// and nobody else can be hit.
Task<> Session::cancel_again(std::shared_ptr<Session> self) {
    constexpr Milliseconds first_pause{20};
    constexpr int times_max = 6;
    const ServerPtr server = self->server_;
    Timer timer(self->worker_.thread().executor());
    Milliseconds pause = first_pause;
    for (int i = 0; i < times_max; ++i, pause *= 2) {
        timer.expires_after(pause);
        [[maybe_unused]] const auto [stopped] = co_await timer.async_wait(as_result);
        const bool is_same_lease = self->server_ == server && self->cancel_sent_;  // of what the cancel was for
        if (!is_same_lease || !server->owes_proof() || server->is_establishing_late()) co_return;
        co_await send_cancel(server, self->pool_, &self->worker_.shared());
    }
}

void Session::on_proven(ServerConnection& server) {
    if (server_.get() == &server && uplink_waits_) wake_.notify();
}

// As if there had been no server connection: what was sent is answered with an error, and nothing of it was done.
void Session::on_not_proven(ServerConnection& server, const Error& error) {
    if (server_.get() != &server || end_reason_ != EndReason::none) return;
    const bool is_whole = replies_.ends_with_ready();
    Error told = error;
    if (statement_timed_out_ && tenant_) {
        told = client_error::statement_timeout(tenant_->limits.statement_ms_max);
    } else if (cancel_sent_) {
        told = client_error::cancelled();
    }
    for (const Expected& expected : replies_.give_up()) undo(expected, false);
    saw_error_ = true;
    settle_named();
    server.forget_context();
    server.close();
    if (!is_whole) {
        skip_to_sync_ = true;
        if (partial_ != Partial::none) partial_ = Partial::drop;
    }
    portals_.clear();
    answered_ = 0;
    route_is_stale_ = true;
    std::string text = client_error::to_message(told, "ERROR");
    if (is_whole) text += message::ready_for_query('I');
    client_out_.write(client_, text);
    end_lease();
    wake_.notify();
}

void Session::on_fatal(const ServerError& error) {
    server_said_fatal_ = true;
    client_out_.write(client_, build_error(error.severity, error.sqlstate, error.message, error.detail, error.hint));
}

}  // namespace pgporter
