// What a tenant may use: places on the cluster (proxy/pool/cluster_places.hpp), transactions and bytes a second, time.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "proxy/session/session.hpp"

namespace pgporter {
namespace {

using std::chrono::ceil;

// A reader or writer that is slowed down looks again this often, so that it ends soon when its session does.
constexpr Milliseconds pause_max{100};

// The waiter is on the waiting coroutine's stack; this outlives it.
struct WaiterLink {
    PoolWaiter* waiter = nullptr;
};

}  // namespace

// Whose places are asked for from now on; a place that is held stays what it is.
void Session::note_places() {
    places_ = pool_->places();
    share_ = desk_ != nullptr ? desk_->share(places_) : pool_->nobodys_share();
    database_places_ = pool_->database_places();
    const BudgetCaps& caps = pool_->caps();
    const PoolKey& key = pool_->key();
    const Database* const database = worker_.snapshot()->find_database(key.address.cluster, key.database);
    place_caps_ = {.cluster_max = caps.cluster_max,
                   .database_max = caps.database_max,
                   .promised_sum = worker_.snapshot()->guaranteed_connections(key.address.cluster),
                   .promised = tenant_ ? tenant_->limits.server_connections_min : 0,
                   .database_promised = database != nullptr ? database->server_connections_min : 0,
                   .reserve_percent = worker_.config().limits.fair_reserve_percent,
                   .tenant_max = tenant_ ? tenant_->server_connections_max : 0};
}

Place Session::try_take_place() {
    return places_->try_take(share_, database_places_, place_caps_, static_cast<std::uint32_t>(worker_.index()));
}

Task<Result<void>> Session::wait_for_place(Place& place) {
    const LimitsConfig& limits = worker_.config().limits;
    PoolMetrics& metrics = worker_.shared().pool_metrics;
    if (worker_.shared().waiting.load() >= limits.waiters_max) co_return client_error::too_many_waiters();
    PoolWaiter waiter(worker_.thread().executor());
    waiter.since = std::chrono::steady_clock::now();
    const auto link = std::make_shared<WaiterLink>(WaiterLink{&waiter});
    const auto ticket = std::make_shared<PlaceTicket>();
    ticket->share = share_;
    ticket->database = database_places_;
    ticket->caps = place_caps_;
    ticket->thread = static_cast<std::uint32_t>(worker_.index());
    ticket->wake = [&thread = worker_.thread(), link] {
        thread.post([link] {
            if (link->waiter == nullptr || link->waiter->end != PoolWaiter::End::none) return;
            link->waiter->end = PoolWaiter::End::served;
            link->waiter->done.notify();
        });
    };
    const std::shared_ptr<ClusterPlaces> places = places_;
    places->wait(ticket);
    metrics.waiting.add(1);
    Result<void> waited = co_await wait(waiter, limits.wait_ms_max);
    metrics.waiting.add(-1);
    link->waiter = nullptr;
    places->leave(ticket);
    metrics.wait_seconds.observe_seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - waiter.since).count());
    if (waiter.end == PoolWaiter::End::timed_out && !ticket->place) metrics.wait_timeouts.inc();
    // Cancelled in the moment in which the place came: it goes back with the ticket.
    if (!ticket->place || waiter.end == PoolWaiter::End::cancelled) co_return waited;
    place = std::move(ticket->place);
    co_return Result<void>{};
}

// A transaction's turn by the tenant's rates. False: not now, and nothing was taken.
bool Session::is_in_rate() {
    if (!has_rates()) return true;
    const TenantLimits& limits = tenant_->limits;
    const auto now = std::chrono::steady_clock::now();
    if (limits.kib_per_second_max != 0 && desk_->usage().bytes.debt(now).count() > 0) return false;
    if (limits.transactions_per_second_max == 0) return true;
    return desk_->usage().transactions.take(now, limits.transactions_per_second_max, {}).has_value();
}

bool Session::has_rates() const {
    return tenant_ != nullptr && desk_ != nullptr && (tenant_->limits.transactions_per_second_max != 0 || tenant_->limits.kib_per_second_max != 0);
}

// Only where has_rates().
Task<Result<void>> Session::wait_for_rate() {
    const TenantLimits limits = tenant_->limits;
    SessionMetrics& metrics = worker_.shared().session_metrics;
    const auto wait_max = worker_.config().limits.wait_ms_max;
    const auto now = std::chrono::steady_clock::now();
    RateLimit::Nanoseconds needed{0};
    if (limits.kib_per_second_max != 0) needed = desk_->usage().bytes.debt(now);
    if (needed > wait_max) {
        metrics.rate_refusals.inc();
        co_return client_error::too_many_bytes(desk_->name(), limits.kib_per_second_max);
    }
    if (limits.transactions_per_second_max != 0) {
        const auto turn = desk_->usage().transactions.take(now, limits.transactions_per_second_max, wait_max);
        if (!turn) {
            metrics.rate_refusals.inc();
            co_return client_error::too_many_transactions(desk_->name(), limits.transactions_per_second_max);
        }
        needed = std::max(needed, *turn);
    }
    if (needed.count() == 0) co_return Result<void>{};
    if (worker_.shared().waiting.load() >= worker_.config().limits.waiters_max) co_return client_error::too_many_waiters();
    metrics.rate_waits.inc();
    PoolWaiter waiter(worker_.thread().executor());
    Result<void> waited = co_await wait(waiter, ceil<Milliseconds>(needed));
    if (waiter.end == PoolWaiter::End::timed_out) co_return Result<void>{};  // that is what was waited for
    co_return waited;
}

void Session::charge_bytes(std::size_t bytes) {
    if (tenant_ == nullptr || desk_ == nullptr || tenant_->limits.kib_per_second_max == 0) return;
    desk_->usage().bytes.charge(std::chrono::steady_clock::now(), bytes, std::uint64_t{tenant_->limits.kib_per_second_max} * 1'024);
}

Milliseconds Session::pause_wanted() const {
    if (tenant_ == nullptr || desk_ == nullptr || tenant_->limits.kib_per_second_max == 0) return Milliseconds(0);
    return std::min(ceil<Milliseconds>(desk_->usage().bytes.debt(std::chrono::steady_clock::now())), pause_max);
}

Task<> Session::slow_down() {
    Timer timer(worker_.thread().executor());
    while (end_reason_ == EndReason::none) {
        const Milliseconds pause = pause_wanted();
        if (pause.count() == 0) co_return;
        timer.expires_after(pause);
        [[maybe_unused]] const auto [cancelled] = co_await timer.async_wait(as_result);
    }
}

// What was sent is the server's to do now.
void Session::begin_times() {
    if (tenant_ == nullptr) return;
    const TenantLimits& limits = tenant_->limits;
    if (limits.transaction_ms_max != 0 && !transaction_deadline_.is_armed()) {
        transaction_deadline_.arm(Milliseconds(limits.transaction_ms_max), [this, ms = limits.transaction_ms_max] {
            worker_.shared().session_metrics.transaction_timeouts.inc();
            const Error error = client_error::transaction_timeout(ms);
            end(EndReason::time_limit, &error);
        });
    }
    if (limits.statement_ms_max != 0 && !statement_deadline_.is_armed()) {
        statement_timed_out_ = false;
        statement_deadline_.arm(Milliseconds(limits.statement_ms_max), [this] { on_statement_timeout(); });
    }
}

// A statement has been answered: the next one's time begins, if there is one.
void Session::on_statement_answered() {
    if (!statement_deadline_.is_armed() && !statement_timed_out_) return;
    statement_deadline_.disarm();
    statement_timed_out_ = false;
    if (!replies_.is_empty()) begin_times();
}

void Session::end_times() {
    statement_deadline_.disarm();
    transaction_deadline_.disarm();
    statement_timed_out_ = false;
}

// It holds a server connection that waits for it: in COPY, or in a batch without its Sync.
bool Session::only_client_can_go_on() const {
    if (inspecting_ || obtaining_ || partial_ != Partial::none) return false;
    return replies_.is_copying_in() || (replies_.has_open_batch() && replies_.is_empty());
}

void Session::bound_idle_transaction() {
    if (idle_deadline_.is_armed()) return;
    const Milliseconds own_max(tenant_ ? tenant_->limits.idle_in_transaction_ms_max : 0);
    const Milliseconds idle_max = own_max.count() != 0 ? own_max : worker_.config().limits.idle_in_transaction_ms_max;
    idle_deadline_.arm(idle_max, [this, idle_max] {
        const Error error = client_error::idle_in_transaction(idle_max.count());
        end(EndReason::idle_in_transaction, &error);
    });
}

void Session::on_statement_timeout() {
    if (!server_ || replies_.is_empty() || inspecting_) return;
    if (statement_timed_out_) {  // the cancel didn't help
        const Error error = client_error::statement_timeout(tenant_->limits.statement_ms_max);
        return end(EndReason::time_limit, &error);
    }
    worker_.shared().session_metrics.statement_timeouts.inc();
    cancel_request([] {});
    // No faster than a cancel takes; what doesn't end then is ended with its session.
    statement_deadline_.arm(worker_.config().limits.cancel_ms_max, [this] { on_statement_timeout(); });
    statement_timed_out_ = true;
}

}  // namespace pgporter
