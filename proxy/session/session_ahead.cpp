// The prologue ahead of the client's first bytes (decision 0019): a lease of a server connection that last served somebody else begins without
// waiting for it. What leaves with it is one turn of the uplink and at most one batch; all that follows waits for the proof.
#include <algorithm>

#include "base/assert.hpp"
#include "proxy/session/prologue_ahead.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {
// Where something must be known before the client's bytes may be sent, or may not fit into one turn, the prologue is awaited.
bool Session::may_go_ahead(const ServerConnection& server) const {
    if (pool_mode_ != PoolMode::transaction || partial_ != Partial::none || resetting_ || held_.state() != HeldTransaction::State::none) return false;
    if (ahead_.is_next_awaited || !server.may_go_ahead() || !client_reported_ || !speaks_alike(server)) return false;
    return dialect().encoding == SqlEncoding::utf8 && pool_->fresh_parameters() != nullptr && !must_ask_fence();
}

void Session::begin_ahead() {
    ahead_.is_due = parameters_untold_ = true;
    has_barrier_ = true;  // should it fail, no more than one batch is asked again
    must_set_again_ = false;
    binding_.reset();
    held_.hand_over();
}

void Session::put_prologue_ahead() {
    ahead_.is_due = false;
    PP_ASSERT(server_ && worker_.to_server().bytes().empty());
    const ServerConnection::Wipe wipe = server_->go_ahead(wanted_context(), id_);
    if (!context_->messages) context_->messages = worker_.setting_messages().find_or_make(*context_);
    append_prologue_ahead(*context_->messages, wipe, worker_.to_server().stage());
    ahead_.is_this_turn = true;
    ahead_.has_synced = false;
    ahead_.may_repeat = answered_ == 0 && portals_.empty() && !named_.in_transaction();
}

// `asked`: what this turn has read since the prologue was put in front.
void Session::keep_what_was_asked(std::string_view asked) {
    ahead_.is_this_turn = false;
    if (!server_ || !server_->owes_proof()) return;
    ahead_.asked = worker_.spare_text();
    ahead_.asked.assign(asked);
}

// Behind a Sync PostgreSQL acts again, whatever came of the prologue. So nothing may stand there: no code above sends such a thing, and should some
// do it one day, it ends here.
bool Session::is_guarded(std::string_view bytes) {
    while (bytes.size() >= 5) {
        const char type = bytes.front();
        if (ahead_.has_synced && type != 'H') return false;
        ahead_.has_synced |= type == 'S';
        bytes.remove_prefix(std::min(bytes.size(), std::size_t{length_field(bytes.substr(1))} + 1));
    }
    return bytes.empty();
}

// Nothing else makes the server say what it owes so far.
void Session::ask_for_proof() {
    if (!server_ || !server_->owes_proof() || replies_.ends_with_ready()) return;
    const auto flush = frame_header('H', 0);
    worker_.to_server().put_copy(std::string_view(flush.data(), flush.size()));
}

// PostgreSQL takes no notice of a cancel that comes before it has begun to read what was sent. While nothing has come back, that may have happened;
// the server connection is still this lease's, or nobody's any more, so nobody else can be hit. `self`: null where the session has ended.
Task<> Session::cancel_again(std::shared_ptr<Session> self, ServerPtr server, std::shared_ptr<Pool> pool, DataPathShared* shared) {
    constexpr Milliseconds first_pause{20};
    constexpr int times_max = 6;
    Timer timer(server->thread().executor());
    Milliseconds pause = first_pause;
    for (int i = 0; i < times_max; ++i, pause *= 2) {
        timer.expires_after(pause);
        [[maybe_unused]] const auto [stopped] = co_await timer.async_wait(as_result);
        const bool is_same_lease = self == nullptr || (self->server_ == server && self->cancel_sent_);  // as what the cancel was for
        if (!is_same_lease || !server->owes_proof()) co_return;
        if (shared->cancels_in_flight.load() < shared->config.limits.cancels_max) co_await send_cancel(server, pool, shared);
    }
}

void Session::on_proven(ServerConnection& server) {
    if (server_.get() != &server) return;
    worker_.keep_text(std::exchange(ahead_.asked, {}));
    if (uplink_waits_) wake_.notify();
}

// Nothing of what was sent was done. It is asked again as it came, behind a prologue that is awaited; or it has failed.
void Session::on_not_proven(ServerConnection& server, const Error& error) {
    if (server_.get() != &server || end_reason_ != EndReason::none) return;
    const bool was_cancelled = cancel_sent_ || statement_timed_out_;
    // A transaction that the request began is forgotten below; what it set, or turned to, isn't as easily.
    const bool has_settled = has_ended_ && route_is_stale_;  // a transaction within it, with what that had set
    const bool has_set = named_.has_uncommitted() || named_.view().effective != named_.view().persistent || has_settled;
    const bool is_as_it_was = partial_ == Partial::none && !has_set && !has_turned_ && to_follow_.empty() && !misplaced_;
    const bool is_repeated = ahead_.may_repeat && is_as_it_was && !was_cancelled;
    const bool is_whole = replies_.ends_with_ready();
    const Error told = told_instead(error);
    for (const Expected& expected : replies_.give_up()) undo(expected, false);
    saw_error_ = true;
    settle_named();
    server.forget_context();
    server.close();
    if (is_repeated) {
        worker_.shared().session_metrics.prologues_repeated.inc();
        ahead_.again = std::exchange(ahead_.asked, {});
        ahead_.is_next_awaited = true;
        client_.wake_readers();
    } else {
        if (!is_whole) skip_to_sync_ = true;
        if (!is_whole && partial_ != Partial::none) partial_ = Partial::drop;
        portals_.clear();
        answered_ = 0;
        route_is_stale_ = true;
        std::string text = client_error::to_message(told, "ERROR");
        if (is_whole) text += message::ready_for_query('I');
        client_out_.write(client_, text);
    }
    end_lease();
    wake_.notify();
}

Error Session::told_instead(const Error& error) const {
    if (statement_timed_out_ && tenant_) return client_error::statement_timeout(tenant_->limits.statement_ms_max);
    if (cancel_sent_) return client_error::cancelled();
    return fail(ErrorKind::unavailable, "the tenant's context could not be established", error.message, "nothing of the request was run; try again", "58000");
}

}  // namespace pgporter
