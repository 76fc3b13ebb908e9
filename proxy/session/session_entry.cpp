// The door of a session: what is decided by where a client comes from, before and after it says who it is. The PROXY header, the bounds by
// address, the throttle of failed logins, the tenant's allow-list, and cancel requests, which come through the same door and go no further.
#include "base/log.hpp"
#include "catalog/allowed_addresses.hpp"
#include "proxy/net/proxy_header.hpp"
#include "proxy/session/cancel_forward.hpp"
#include "proxy/session/replication_relay.hpp"
#include "proxy/session/session.hpp"

namespace pgporter {

Task<bool> Session::enter() {
    client_address_ = client_address_of(client_.descriptor());
    if (worker_.shared().logins.load() > worker_.config().limits.logins_max) {
        const bool refused = co_await refuse_login(EndReason::limit, client_error::too_many_sessions());
        co_return refused;
    }
    if (listener_->config.proxy_protocol == ProxyProtocol::required) {
        const bool read = co_await read_proxy_header();
        if (!read) co_return false;
    }
    if (!worker_.shared().login_throttle.begin_login(client_address_.ip)) {
        worker_.shared().session_metrics.logins_refused_by_address.inc();
        const bool refused = co_await refuse_login(EndReason::limit, client_error::too_many_logins_from_address());
        co_return refused;
    }
    counted_address_ = true;
    co_return true;
}

// Reads not a byte more than the header: what follows may be a TLS handshake that OpenSSL reads from the socket.
Task<bool> Session::read_proxy_header() {
    const auto& from = listener_->config.proxy_protocol_from;
    std::string input;
    ProxyHeader header;
    if (!is_address_allowed(from, client_address_.ip)) {
        header.status = ProxyHeader::Status::malformed;
        header.problem = "the connection comes from nowhere in listen.proxy_protocol_from";
    }
    while (header.status == ProxyHeader::Status::need_more) {
        const std::size_t have = input.size();
        input.resize(header.bytes);
        const IoResult result = client_.read_some(input.data() + have, header.bytes - have);
        input.resize(have + result.bytes);
        if (result.status == IoStatus::ok) {
            header = parse_proxy_header(input, worker_.config().limits.proxy_header_bytes_max);
            continue;
        }
        const bool ready = co_await client_.ready_for(result.status);
        if (ready) continue;
        // A balancer that only looks whether the port is open is no event worth a log line.
        end(input.empty() ? EndReason::client_terminated : EndReason::client_lost, nullptr);
        co_return false;
    }
    if (header.status == ProxyHeader::Status::malformed) {
        // Nothing is answered: whoever is there doesn't speak what this listener speaks.
        worker_.shared().session_metrics.proxy_headers_refused.inc();
        log::warning("proxy_header_refused", {{"session", std::to_string(id_.value)},
                                              {"client", client_address_.text()},
                                              {"reason", std::string(header.problem)}});
        end(EndReason::protocol_violation, nullptr);
        co_return false;
    }
    if (header.client || header.is_unix) client_address_ = {header.client, header.client_port};
    co_return true;
}

void Session::leave_login() {
    if (counted_login_) {
        --worker_.shared().logins;
        worker_.shared().session_metrics.logins.add(-1);
        counted_login_ = false;
    }
    if (counted_address_) worker_.shared().login_throttle.end_login(client_address_.ip);
    counted_address_ = false;
}

bool Session::may_try_login(const std::string& user) {
    return worker_.shared().login_throttle.may_try(client_address_.ip, user, std::chrono::steady_clock::now());
}

Task<Result<void>> Session::authenticate_throttled(std::string user) {
    if (listener_->config.auth == ClientAuth::trust) {
        Result<void> trusted = co_await authenticate(std::move(user));
        co_return trusted;
    }
    LoginThrottle& throttle = worker_.shared().login_throttle;
    // Counted for users that don't exist alike, so being refused here says nothing about that.
    Result<void> done = may_try_login(user) ? Result<void>{} : Result<void>(client_error::too_many_failed_logins(user));
    if (done) done = co_await authenticate(user);
    if (done) {
        throttle.note_success(client_address_.ip, user);
    } else if (done.error().kind == ErrorKind::unauthenticated) {
        throttle.note_failure(client_address_.ip, user, std::chrono::steady_clock::now());
        worker_.shared().session_metrics.login_failures.inc();
    } else if (done.error().kind == ErrorKind::limit) {
        worker_.shared().session_metrics.logins_throttled.inc();
    }
    worker_.shared().session_metrics.login_failure_addresses.set(static_cast<std::int64_t>(throttle.remembered_addresses()));
    co_return done;
}

// After route(): only who may speak for the tenant learns that it has a list.
Result<void> Session::check_address() const {
    if (!tenant_ || is_address_allowed(*tenant_, client_address_.ip)) return {};
    return client_error::address_not_allowed(tenant_->name);
}

void Session::on_snapshot() {
    const SnapshotPtr& snapshot = worker_.snapshot();
    if (end_reason_ != EndReason::none || counted_login_ || !snapshot) return;
    // It has no next transaction that would be routed anew.
    if (replication_ != ReplicationMode::none && !may_replicate_on()) return end_at_safe_point(client_error::replication_ends());
    // Told while it is idle: a pool of connections then replaces it before anybody needs it.
    if (types_have_moved(*snapshot)) return end_at_safe_point(client_error::types_have_moved(tenant_name_));
    const auto lets_in = [&](const std::string& tenant) {
        const TenantPtr now = tenant.empty() ? nullptr : snapshot->find_tenant(tenant);
        return !now || is_address_allowed(*now, client_address_.ip);  // gone: the next transaction is told
    };
    if (!lets_in(identity_.tenant)) return end_at_safe_point(client_error::address_no_longer_allowed(identity_.tenant));
    // Named in SQL: refused when it is routed again. Who keeps a server connection isn't routed before it gives that up.
    if (server_ && !lets_in(tenant_name_)) end_at_safe_point(client_error::address_no_longer_allowed(tenant_name_));
}

// As with PostgreSQL the connection is closed when the cancel has been handled: PQcancel waits for that, so that a cancel never hits the
// next query of its own session. It costs nothing in secrecy: only the whole right key, which nobody finds by parts, is answered later than
// a wrong one, and who sends it knows it already. Whatever a client writes behind the request (a Terminate, a zero byte) is ignored; nothing
// is ever answered.
Task<> Session::handle_cancel_packet(CancelRequest request) {
    DataPathShared& shared = worker_.shared();
    login_deadline_.arm(worker_.config().limits.cancel_ms_max, [this] { end(EndReason::client_terminated, nullptr); });
    const bool was_forwarded = take_hop_mark(request);
    if (const auto target = shared.cancels.find(request.pid, request.key)) {
        shared.session_metrics.cancels.inc();
        Worker* owner = shared.workers[target->worker].get();
        IoThread& home = worker_.thread();
        const auto handled = [self = weak_from_this(), &home] {
            home.post([self] {
                const auto alive = self.lock();
                if (!alive) return;
                alive->cancel_is_handled_ = true;
                alive->wake_.notify();
            });
        };
        owner->thread().post([owner, session = target->session, handled] { owner->cancel(session, handled); });
        while (!cancel_is_handled_ && end_reason_ == EndReason::none) co_await wake_.wait();
    } else if (!was_forwarded) {
        if (const PeerConfig* peer = peer_of(shared, request)) co_await forward_cancel(worker_.thread(), shared, *peer, std::move(request));
    }
    // Unread bytes would make the kernel answer with a reset.
    char ignored[4096];
    if (client_.is_open()) [[maybe_unused]] const IoResult result = client_.read_some(ignored, sizeof ignored);
    end(EndReason::client_terminated, nullptr);
}

}  // namespace pgporter
