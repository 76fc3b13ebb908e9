#include "proxy/session/session.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include <new>

#include "base/log.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {

void Session::start(Worker& worker, Stream::Descriptor socket, std::shared_ptr<const Listener> listener, bool is_one_too_many) {
    auto session = std::make_shared<Session>(worker, std::move(socket), std::move(listener));
    session->is_one_too_many_ = is_one_too_many;
    worker.add(session);
    asio::co_spawn(worker.thread().executor(), run(session), [session](std::exception_ptr failure) {
        if (!failure) return;
        // A bug: it ends this session and nobody else's.
        try {
            std::rethrow_exception(failure);
        } catch (const std::exception& e) {
            log::error("session_failed", {{"session", std::to_string(session->id().value)}, {"reason", e.what()}});
        }
        session->end(EndReason::client_lost, nullptr);
        session->client_.close();  // also where end() itself has failed
        session->worker_.remove(session->id_);
    });
}

Session::Session(Worker& worker, Stream::Descriptor socket, std::shared_ptr<const Listener> listener)
    : worker_(worker),
      id_(++worker.shared().last_session),
      listener_(std::move(listener)),
      client_(worker.thread().context(), std::move(socket)),
      login_deadline_(worker.thread().wheel()),
      deadline_(worker.thread().wheel()),
      idle_deadline_(worker.thread().wheel()),
      read_deadline_(worker.thread().wheel()),
      statement_deadline_(worker.thread().wheel()),
      transaction_deadline_(worker.thread().wheel()),
      wake_(worker.thread().executor()) {
    worker.clients.add(1);
    ++worker.shared().logins;
    worker.shared().session_metrics.logins.add(1);
    counted_login_ = true;
}

Session::~Session() {
    worker_.clients.add(-1);
}

Task<> Session::run(std::shared_ptr<Session> self) {
    co_await within_memory(self, live(self));
    self->end(EndReason::client_lost, nullptr);  // unless a better reason was given before
    self->worker_.remove(self->id_);
}

Task<> Session::within_memory(std::shared_ptr<Session> self, Task<> work) {
    try {
        co_await std::move(work);
    } catch (const std::bad_alloc&) {
        self->on_out_of_memory();
    }
}

// Whatever was under way is given up half done: with it ends the session, and nobody else's.
void Session::on_out_of_memory() {
    worker_.to_client().done();  // the thread's own: the next one must find them empty
    worker_.to_server().done();
    has_said_ = false;
    inspecting_ = server_ != nullptr;  // and its server connection isn't fit for anybody else
    worker_.shared().memory.count_refusal();
    const Error error = client_error::out_of_memory();
    end(EndReason::limit, &error);
}

MemoryAccount Session::memory_account() {
    DataPathShared& shared = worker_.shared();
    return {&shared.memory, desk_ != nullptr ? &desk_->usage().buffered_bytes : &shared.home_bytes};
}

Task<> Session::live(std::shared_ptr<Session> self) {
    self->login_deadline_.arm(self->worker_.config().limits.login_ms_max, [raw = self.get()] {
        const Error error = client_error::login_timeout();
        raw->end(EndReason::login_timeout, &error);
    });
    const bool logged_in = co_await self->log_in();
    self->login_deadline_.disarm();
    if (logged_in && self->end_reason_ == EndReason::none) {
        if (self->relay_) {
            co_await self->replicate();
        } else {
            co_await self->uplink();
        }
    }
}

void Session::end(EndReason reason, const Error* error) {
    if (end_reason_ != EndReason::none) return;
    end_reason_ = reason;
    flush_said();
    if (error != nullptr && client_.is_open()) {
        // One FATAL, in the place where the client expects a message; a client that can't take it now loses nothing by that.
        client_out_.write(client_, client_error::to_message(*error, "FATAL"));
    }
    login_deadline_.disarm();
    deadline_.disarm();
    idle_deadline_.disarm();
    read_deadline_.disarm();
    end_times();
    if (server_) abandon_lease();
    set_pins({});
    if (current_wait_ != nullptr) {
        current_wait_->end = PoolWaiter::End::cancelled;
        current_wait_->done.notify();
    }
    wake_.notify();
    client_.close();
    if (relay_) relay_->close();
    if (has_cancel_key_) worker_.shared().cancels.remove(cancel_key_);
    SessionMetrics& metrics = worker_.shared().session_metrics;
    leave_login();
    if (counted_session_) {
        --worker_.shared().sessions;
        metrics.sessions.add(-1);
        counted_session_ = false;
        if (login_desk_ != nullptr) {
            login_desk_->usage().sessions.fetch_sub(1, std::memory_order_relaxed);
            login_desk_->counters().sessions.add(-1);
        }
    }
    metrics.ended(reason).inc();
    if (reason != EndReason::client_terminated && reason != EndReason::login_failed) {  // a refused login was logged where it was refused
        log::info("session_ended", {{"session", std::to_string(id_.value)},
                                    {"user", identity_.user},
                                    {"tenant", tenant_name_},
                                    {"client", client_address_.text()},
                                    {"reason", std::string(to_text(reason))},
                                    {"message", error == nullptr ? "" : error->message}});
    }
}

void Session::cancel_request(std::function<void()> handled) {
    if (end_reason_ != EndReason::none) return handled();
    if (current_wait_ != nullptr) {
        current_wait_->end = PoolWaiter::End::cancelled;
        current_wait_->done.notify();
        return handled();
    }
    if (obtaining_) {  // its request waits behind what we ask of the server connection first
        cancel_asked_ = true;
        return handled();
    }
    // Only what the session runs now may be hit; between transactions the server connection isn't its own any more.
    const bool runs = server_ && !inspecting_ && !replies_.is_empty();
    if (!runs && !relay_) return handled();
    auto& shared = worker_.shared();
    if (shared.cancels_in_flight.load() >= worker_.config().limits.cancels_max) {
        log::warning("cancel_dropped", {{"reason", "limits.cancels_max is reached"}});
        return handled();
    }
    cancel_sent_ = true;
    auto sending = relay_ ? relay_->send_cancel(worker_.thread(), shared) : send_cancel(server_, pool_, &shared);
    asio::co_spawn(worker_.thread().executor(), std::move(sending), [handled = std::move(handled)](std::exception_ptr) { handled(); });
    if (relay_ || !server_->owes_proof()) return;
    asio::co_spawn(worker_.thread().executor(), cancel_again(shared_from_this(), server_, pool_, &shared), asio::detached);
}

void Session::drain() {
    end_at_safe_point(client_error::shutting_down());
}

void Session::end_at_safe_point(const Error& error) {
    if (!draining_) safe_end_error_ = error;
    draining_ = true;
    if (end_reason_ != EndReason::none || counted_login_) return;
    if (relay_) return end_replication(*safe_end_error_);
    const bool idle = !server_ && current_wait_ == nullptr;
    const bool idle_pinned = server_ && is_pinned() && replies_.is_idle() && !inspecting_;
    if (idle || idle_pinned) end(EndReason::administrator, &*safe_end_error_);
}

Task<> Session::flush_client() {
    deadline_.arm(worker_.config().limits.client_write_ms_max, [this] { end(EndReason::client_too_slow, nullptr); });
    const bool flushed = co_await client_out_.flush(client_);
    deadline_.disarm();
    if (!flushed) end(EndReason::client_lost, nullptr);
}

}  // namespace pgporter
