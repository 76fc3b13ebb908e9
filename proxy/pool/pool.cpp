#include "proxy/pool/pool.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <new>
#include <utility>

#include "base/assert.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

// Logins at once of one pool: the others of its cluster have their part of limits.server_connects_max.
constexpr std::size_t opening_max = 8;

// The server can't be reached, is going down or isn't up yet: so for every user and database of the cluster.
bool is_of_whole_cluster(const Error& error) {
    return error.sqlstate.empty() || error.sqlstate.starts_with("08") || error.sqlstate.starts_with("57P");
}

}  // namespace

PoolMetrics::PoolMetrics(metrics::Registry& registry)
    : server_connections(registry.gauge("pgporter_server_connections", "Open server connections.")),
      leases(registry.gauge("pgporter_leases", "Server connections lent to sessions.")),
      waiting(registry.gauge("pgporter_waiting_transactions", "Transactions waiting for a server connection.")),
      wait_seconds(registry.histogram("pgporter_wait_seconds", "Time transactions waited for a server connection.")),
      prologues(registry.counter("pgporter_prologues_total", "Contexts established on server connections.")),
      connects(registry.counter("pgporter_server_connects_total", "Server connections opened.")),
      connect_failures(registry.counter("pgporter_server_connect_failures_total", "Server connections that could not be opened.")),
      wait_timeouts(registry.counter("pgporter_wait_timeouts_total", "Transactions that waited longer than limits.wait_ms_max.")),
      outages(registry.gauge("pgporter_server_outages", "Clusters that take no connections, counted by each thread that has found it so.")),
      outage_errors(registry.counter("pgporter_outage_errors_total", "Transactions and logins that were told so.")),
      silent_servers(registry.counter("pgporter_server_connections_silent_total",
                                      "Server connections given up after limits.server_silent_ms_max.")),
      handovers(registry.counter("pgporter_server_connection_handovers_total", "Server connections that went from one thread to another.")),
      renewed(registry.counter("pgporter_server_connections_renewed_total",
                               "Server connections closed because they had served limits.server_tenants_max tenants.")) {}

Pool::Pool(PoolSet& set, PoolKey key, BudgetCaps caps)
    : set_(set), key_(std::move(key)), latency_(set.metrics().latency.of(key_.address.cluster)), caps_(caps),
      own_pace_({opening_max, set.config().limits.server_retry_ms_max, Milliseconds(0)}),
      peers_(set.book().peers(key_)), level_(set.budget().level({key_.address.cluster, key_.database})),
      places_(set.places_.cluster(key_.address.cluster)), database_places_(places_->database(key_.database)),
      nobodys_share_(places_->share("")) {
    peers_->sit_down(thread_index(), this);
}

Pool::~Pool() {
    stop_starving();
    note_wanted();
    peers_->set_idle(thread_index(), 0);
    peers_->set_open(thread_index(), 0);
    peers_->sit_down(thread_index(), nullptr);
    *alive_ = nullptr;
}

std::shared_ptr<const Settings> Pool::shared(const Settings& reported) {
    return set_.reported().find_or_make(reported);
}

void Pool::count_prologue() {
    set_.metrics().prologues.inc();
}

void Pool::set_credential(ServerCredential credential) {
    const auto& before = credential_.scram_keys;
    const auto& now = credential.scram_keys;
    const bool is_other = now != before && (!now || !before || now->client_key != before->client_key);
    if (is_other) own_pace_.forget_failure();  // the server may have refused the one before
    credential_ = std::move(credential);
}

ServerPtr Pool::try_take(SessionId session, TenantMark tenant) {
    if (waiting_ != 0) return nullptr;  // those who came before go first
    while (!idle_.empty()) {
        const auto chosen = choose_server(idle_.begin(), idle_.end(), tenant, [session](const ServerPtr& one) { return one->last_session() == session; },
                                          [](const ServerPtr& one) -> const ServedTenants& { return one->served; });
        ServerPtr server = std::move(*chosen);
        idle_.erase(chosen);
        note_idle();
        if (server->is_alive() && !server->looks_dead()) return server;
        server->close();  // its downlink reports the end
    }
    return nullptr;
}

void Pool::wait(PoolWaiter& waiter) {
    auto& queue = waiters_[waiter.tenant];
    if (queue.empty()) turn_.push_back(waiter.tenant);
    queue.push_back(&waiter);
    waiter.since = std::chrono::steady_clock::now();
    ++waiting_;
    set_.metrics().waiting.add(1);
    dispatch();
}

void Pool::leave(PoolWaiter& waiter) {
    const auto at = waiters_.find(waiter.tenant);
    if (at == waiters_.end()) return;
    const auto place = std::find(at->second.begin(), at->second.end(), &waiter);
    if (place == at->second.end()) return;
    at->second.erase(place);
    --waiting_;
    set_.metrics().waiting.add(-1);
    if (at->second.empty()) {
        turn_.erase(std::find(turn_.begin(), turn_.end(), waiter.tenant));
        waiters_.erase(at);
    }
    if (waiting_ == 0) stop_starving();
    note_wanted();
}

PoolWaiter* Pool::next_waiter() {
    if (turn_.empty()) return nullptr;
    const std::string tenant = std::move(turn_.front());
    turn_.pop_front();
    const auto at = waiters_.find(tenant);
    PP_ASSERT(at != waiters_.end() && !at->second.empty());
    PoolWaiter* waiter = at->second.front();
    at->second.pop_front();
    --waiting_;
    set_.metrics().waiting.add(-1);
    if (at->second.empty()) {
        waiters_.erase(at);
    } else {
        turn_.push_back(tenant);  // the next tenant's turn comes before this one's second
    }
    return waiter;
}

void Pool::finish(PoolWaiter& waiter, PoolWaiter::End end) {
    waiter.end = end;
    waiter.done.notify();
}

void Pool::serve(PoolWaiter& waiter, ServerPtr server) {
    waiter.server = std::move(server);
    finish(waiter, PoolWaiter::End::served);
}

void Pool::send_back(std::string_view tenant) {
    const auto at = waiters_.find(tenant);
    if (at == waiters_.end()) return;
    const std::deque<PoolWaiter*> sent = at->second;
    for (PoolWaiter* waiter : sent) {
        leave(*waiter);
        finish(*waiter, PoolWaiter::End::retry);
    }
}

void Pool::fail_waiters(const Error& error) {
    while (PoolWaiter* waiter = next_waiter()) {
        waiter->error = error;
        finish(*waiter, PoolWaiter::End::failed);
    }
    stop_starving();
    note_wanted();
}

void Pool::stop_starving() {
    if (std::exchange(starving_, false)) set_.budget().stop_starving(key_.address.cluster, this);
}

void Pool::dispatch() {
    while (waiting_ != 0 && !idle_.empty()) {
        ServerPtr server = std::move(idle_.back());
        idle_.pop_back();
        note_idle();
        if (!server->is_alive() || server->looks_dead()) {
            server->close();
            continue;
        }
        serve(*next_waiter(), std::move(server));
    }
    if (waiting_ == 0) stop_starving();
    // As long as there is room each thread has its own; then, or where none can be opened, those that are idle elsewhere are as good.
    if (unserved() != 0 && (level_.is_full(caps_) || own_pace_.is_down() || set_.connects_of(key_.address).pace.is_down())) claim_what_is_needed();
    while (opening_ < std::min(opening_max, waiting_ - std::min(waiting_, claimed_) + spare_wanted_)) {
        if (!own_pace_.may_try(std::chrono::steady_clock::now()) || !set_.may_connect(*this) || !open_one()) break;
    }
    note_wanted();
    if (peers_->is_wanted()) claim_what_is_needed();  // what has become idle before we were seen wanting
    tell_of_outage();
}

const Error* Pool::trouble() {
    if (!all_.empty() || peers_->has_open()) return nullptr;
    const Error* own = own_pace_.failure();
    return own != nullptr ? own : set_.connects_of(key_.address).pace.failure();
}

// With a working connection at hand, or one on its way, the waiters are still served in their turn.
void Pool::tell_of_outage() {
    if (waiting_ == 0 || opening_ != 0 || claimed_ != 0 || !all_.empty() || peers_->has_open()) return;
    const auto now = std::chrono::steady_clock::now();
    const Error* verdict = own_pace_.verdict(now);
    if (verdict == nullptr) verdict = set_.connects_of(key_.address).pace.verdict(now);
    if (verdict == nullptr) return;
    set_.metrics().outage_errors.inc(waiting_);
    fail_waiters(*verdict);
}

bool Pool::open_one() {
    if (starving_) return false;  // already waits for a place
    const BudgetKey budget_key{key_.address.cluster, key_.database};
    const auto wake = [&thread = set_.thread(), alive = alive_] {
        thread.post([alive] {
            if (*alive == nullptr) return;
            (*alive)->starving_ = false;
            (*alive)->dispatch();
        });
    };
    if (waiting_ == 0) {
        if (!set_.budget().take(budget_key, caps_)) {
            spare_wanted_ = 0;  // nobody's idle connection is closed for a spare one
            return false;
        }
    } else if (!set_.budget().take_or_starve(budget_key, caps_, {this, peers_.get()}, wake)) {
        starving_ = true;
        // Somebody's idle connection of the same server is worth less than a waiting transaction. Where the database's own cap
        // is what stops us, only a connection to that database helps.
        set_.close_one_idle_of_any(key_.address.cluster, level_.is_cluster_full(caps_) ? std::string() : key_.database, this);
        return false;
    }
    ++opening_;
    own_pace_.began();
    set_.connects_of(key_.address).pace.began();
    if (spare_wanted_ > 0) --spare_wanted_;
    asio::co_spawn(set_.thread().executor(), open_connection(alive_, this), asio::detached);
    return true;
}

Task<Result<ServerPtr>> Pool::open_server(PoolSet& set, ServerOptions options) {
    try {
        Result<ServerPtr> opened = co_await ServerConnection::open(set.thread(), std::move(options));
        co_return opened;
    } catch (const std::bad_alloc&) {
    }
    co_return fail(ErrorKind::limit, "pgporter is out of memory for another server connection", {}, {}, "53200");
}

Task<> Pool::open_connection(std::shared_ptr<Pool*> alive, Pool* self) {
    PoolSet& set = self->set_;
    const BudgetKey budget_key{self->key_.address.cluster, self->key_.database};
    const LimitsConfig& limits = set.config().limits;
    ServerOptions options{self->key_.address, self->key_.database, self->key_.user, self->credential_,
                          limits.server_connect_ms_max, limits.prologue_ms_max, limits.server_statements_max};
    options.silent_ms_max = limits.server_silent_ms_max;
    const auto began = std::chrono::steady_clock::now();
    PoolSet::ClusterConnects& connects = set.connects_of(self->key_.address);
    Result<ServerPtr> opened = co_await open_server(set, std::move(options));
    if (*alive == nullptr) {  // only at shutdown: unused pools have nothing under way
        set.budget().give_back(budget_key);
        connects.pace.gave_up();
        co_return;
    }
    --self->opening_;
    if (!opened) {
        set.budget().give_back(budget_key);
        self->on_connect_failed(opened.error(), began);
    } else {
        const bool was_down = connects.pace.is_down();
        connects.pace.succeeded();
        self->own_pace_.succeeded();
        set.note_down(connects, was_down);
        set.metrics().connects.inc();
        set.metrics().server_connections.add(1);
        self->fresh_parameters_ = (*opened)->reported();
        self->doubtful_.clear();
        self->peers_->set_fresh_parameters(self->fresh_parameters_);
        self->all_.push_back(*opened);
        self->note_open();
        (*opened)->run(self);
        (*opened)->idle_since = std::chrono::steady_clock::now();
        self->put_idle(*opened);
    }
    self->dispatch();
    set.wake_blocked(connects);
}

void Pool::on_connect_failed(const Error& error, SteadyTime began) {
    set_.metrics().connect_failures.inc();
    log::warning("server_connect_failed", {{"cluster", key_.address.cluster},
                                           {"database", key_.database},
                                           {"user", key_.user},
                                           {"reason", error.message},
                                           {"detail", error.detail}});
    const auto now = std::chrono::steady_clock::now();
    PoolSet::ClusterConnects& connects = set_.connects_of(key_.address);
    const bool was_down = connects.pace.is_down();
    if (is_of_whole_cluster(error)) {
        // A server that restarts refuses at once; one that says nothing at all for the whole time isn't about to come up, and no TLS isn't
        // a matter of time.
        const bool was_unanswered = now - began >= set_.config().limits.server_connect_ms_max * 9 / 10;
        own_pace_.gave_up();
        connects.pace.failed(now, error, set_.jitter(), was_unanswered || error.kind == ErrorKind::invalid);
    } else {
        own_pace_.failed(now, error, set_.jitter(), true);
        connects.pace.succeeded();  // it has answered
    }
    set_.note_down(connects, was_down);
}

void Pool::look_for_silence(SteadyTime now) {
    for (const ServerPtr& server : all_) server->look_for_silence(now);
}

void Pool::give_back(const ServerPtr& server) {
    server->take_back();
    if (!server->is_alive()) return;  // its downlink reports the end
    const auto now = std::chrono::steady_clock::now();
    const LimitsConfig& limits = set_.config().limits;
    const bool has_seen_many = limits.server_tenants_max != 0 && server->served.count() >= limits.server_tenants_max;
    if (has_seen_many) set_.metrics().renewed.inc();
    if (server->retire || has_seen_many || now - server->opened_at() > limits.server_lifetime_ms_max) {
        server->close();
        return;
    }
    // A cancel request under way could hit whoever comes next: nobody comes before it has arrived.
    if (server->cancels_in_flight != 0) return;
    // Pools that share a cap take turns: with waiters of our own, every fourth connection goes to the others.
    if (set_.budget().others_starve({key_.address.cluster, key_.database}, peers_.get()) && (waiting_ == 0 || ++served_while_starving_ % 4 == 0)) {
        server->close();
        return;
    }
    server->idle_since = now;
    put_idle(server);
    if (peers_->is_wanted() && (waiting_ == 0 || ++served_while_wanted_ % 2 == 0)) serve_others();
    if (waiting_ != 0) dispatch();
}

void Pool::on_cancel_done(const ServerPtr& server) {
    if (server->cancels_in_flight != 0 || server->state() != ServerConnection::State::idle) return;
    server->forget_context();  // whatever the cancel did is reset before anybody uses the connection
    give_back(server);
}

void Pool::on_server_closed(ServerConnection& server) {
    const auto is_it = [&](const ServerPtr& other) { return other.get() == &server; };
    if (std::erase_if(idle_, is_it) != 0) note_idle();
    if (server.loss() == ServerConnection::Loss::silent) set_.metrics().silent_servers.inc();
    const auto erased = std::erase_if(all_, is_it);
    PP_ASSERT(erased == 1);
    note_open();
    set_.metrics().server_connections.add(-1);
    set_.budget().give_back({key_.address.cluster, key_.database});
    if (waiting_ != 0) dispatch();
}

bool Pool::close_one_idle() {
    if (idle_.empty()) return false;
    const ServerPtr server = std::move(idle_.front());
    idle_.erase(idle_.begin());
    note_idle();
    server->close();
    return true;
}

void Pool::close_expired(SteadyTime now) {
    const LimitsConfig& limits = set_.config().limits;
    std::vector<ServerPtr> expired;
    std::erase_if(idle_, [&](const ServerPtr& server) {
        const bool old = now - server->idle_since > limits.server_idle_ms_max || now - server->opened_at() > limits.server_lifetime_ms_max;
        if (old) expired.push_back(server);
        return old;
    });
    note_idle();
    for (const auto& server : expired) server->close();
}

void Pool::close_all_idle() {
    while (close_one_idle()) {
    }
}

void Pool::open_spare(std::size_t wanted) {
    const std::size_t there = all_.size() + opening_;
    spare_wanted_ = wanted > there ? wanted - there : 0;
    dispatch();
}

PoolSet::PoolSet(IoThread& thread, const Config& config, const Shared& shared)
    : thread_(thread), config_(config), budget_(shared.budget), places_(shared.places), book_(shared.book), metrics_(shared.metrics),
      sweep_deadline_(thread.wheel()) {
    book_.add(thread.index(), *this);
}

std::shared_ptr<Pool> PoolSet::find_or_create(const PoolKey& key, const BudgetCaps& caps) {
    auto at = pools_.find(key);
    if (at == pools_.end()) {
        at = pools_.emplace(key, std::make_shared<Pool>(*this, key, caps)).first;
        if (!sweep_deadline_.is_armed()) sweep_deadline_.arm(Milliseconds(1000), [this] { sweep(); });
    }
    at->second->set_caps(caps);
    return at->second;
}

PoolSet::ClusterConnects& PoolSet::connects_of(const ServerAddress& address) {
    return connects_.try_emplace(address, config_.limits, thread_.wheel()).first->second;
}

bool PoolSet::may_connect(Pool& pool) {
    ClusterConnects& connects = connects_of(pool.key_.address);
    const auto now = std::chrono::steady_clock::now();
    if (connects.pace.may_try(now)) return true;
    if (!std::exchange(pool.is_blocked_, true)) connects.blocked.push_back(pool.alive_);
    // While something is tried its end wakes them.
    if (connects.pace.trying() == 0 && !connects.next_try.is_armed()) {
        const auto pause = std::chrono::ceil<Milliseconds>(connects.pace.next_try() - now);
        connects.next_try.arm(std::max(pause, Milliseconds(1)), [this, &connects] { wake_blocked(connects); });
    }
    return false;
}

// Another one is the first each time.
void PoolSet::wake_blocked(ClusterConnects& connects) {
    auto blocked = std::exchange(connects.blocked, {});
    if (blocked.size() > 1) std::rotate(blocked.begin(), blocked.begin() + 1, blocked.end());
    for (const auto& alive : blocked) {
        if (*alive != nullptr) (*alive)->is_blocked_ = false;
    }
    for (const auto& alive : blocked) {
        if (*alive != nullptr) (*alive)->dispatch();
    }
}

void PoolSet::note_down(ClusterConnects& connects, bool was_down) {
    if (was_down == connects.pace.is_down()) return;
    metrics_.outages.add(was_down ? -1 : 1);
    if (was_down) connects.next_try.disarm();
}

void PoolSet::sweep() {
    const auto now = std::chrono::steady_clock::now();
    places_.tick(now);
    for (auto at = pools_.begin(); at != pools_.end();) {
        at->second->close_expired(now);
        at->second->look_for_silence(now);
        at = at->second->is_unused() && at->second.use_count() == 1 ? pools_.erase(at) : std::next(at);
    }
    // What is remembered of a cluster that nobody has tried for long is of no use any more; it may even have another address now.
    for (auto at = connects_.begin(); at != connects_.end();) {
        ClusterConnects& connects = at->second;
        const bool is_unused = connects.pace.trying() == 0 && connects.blocked.empty() && now - connects.pace.next_try() > std::chrono::minutes(1);
        if (is_unused && connects.pace.is_down()) metrics_.outages.add(-1);
        at = is_unused ? connects_.erase(at) : std::next(at);
    }
    if (!pools_.empty() || !connects_.empty()) sweep_deadline_.arm(Milliseconds(1000), [this] { sweep(); });
}

bool PoolSet::close_one_idle_of(const std::string& cluster, const std::string& database, const Pool* except) {
    Pool* richest = nullptr;
    for (auto& [key, pool] : pools_) {
        if (pool.get() == except || key.address.cluster != cluster) continue;
        if (!database.empty() && key.database != database) continue;
        if (pool->idle_count() != 0 && (richest == nullptr || pool->idle_count() > richest->idle_count())) richest = pool.get();
    }
    return richest != nullptr && richest->close_one_idle();
}

void PoolSet::close_one_idle_of_any(const std::string& cluster, const std::string& database, const Pool* except) {
    if (!close_one_idle_of(cluster, database, except)) book_.close_one_idle_of_others(thread_.index(), cluster, database);
}

std::uint32_t PoolSet::count(const std::string& cluster, const std::string& database, bool opening) const {
    std::size_t sum = 0;
    for (const auto& [key, pool] : pools_) {
        if (key.address.cluster != cluster || key.database != database) continue;
        sum += opening ? pool->opening_count() : pool->ready_count();
    }
    return static_cast<std::uint32_t>(sum);
}

void PoolSet::send_back(std::string_view tenant) {
    for (auto& [key, pool] : pools_) pool->send_back(tenant);
}

void PoolSet::close_all_idle() {
    for (auto& [key, pool] : pools_) pool->close_all_idle();
}

}  // namespace pgporter
