// Pool: the server connections of one thread to one database as one user, and who waits for them. Same thread only; shares the
// caps of all threads through ServerBudget, and its idle connections with the other threads' pools of the same key through PoolPeers.
//
// An idle connection that last served the asking session is lent first (nothing to reset), then one that has served its tenant (choose_server()).
// Waiters are served tenant by tenant in turn, first come first served within a tenant. It must not: know what a session does.
#pragma once

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/metrics.hpp"
#include "catalog/config.hpp"
#include "proxy/net/event.hpp"
#include "proxy/pool/connect_pace.hpp"
#include "proxy/pool/cluster_places.hpp"
#include "proxy/pool/latency_probe.hpp"
#include "proxy/pool/pool_key.hpp"
#include "proxy/pool/pool_peers.hpp"
#include "proxy/pool/server_budget.hpp"
#include "proxy/pool/server_connection.hpp"
#include "proxy/pool/shared_values.hpp"

namespace pgporter {

struct PoolMetrics {
    metrics::Gauge& server_connections;
    metrics::Gauge& leases;
    metrics::Gauge& waiting;
    metrics::Histogram& wait_seconds;
    metrics::Counter& prologues;
    metrics::Counter& connects;
    metrics::Counter& connect_failures;
    metrics::Counter& wait_timeouts;
    metrics::Gauge& outages;
    metrics::Counter& outage_errors;
    metrics::Counter& silent_servers;
    metrics::Counter& handovers;
    metrics::Counter& renewed;
    LatencyProbes latency;
    explicit PoolMetrics(metrics::Registry& registry);
};

// One transaction's place in the queue; lives in the waiting coroutine.
struct PoolWaiter {
    explicit PoolWaiter(const Executor& executor) : done(executor) {}
    enum class End { none, served, failed, retry, cancelled, timed_out };
    Event done;
    End end = End::none;
    ServerPtr server;
    Error error;
    std::string tenant;
    SteadyTime since{};
};

class PoolSet;

class Pool {
  public:
    Pool(PoolSet& set, PoolKey key, BudgetCaps caps);
    ~Pool();

    // An idle connection, at once, or null. Prefers the one that this session used last, then one that has served this tenant.
    [[nodiscard]] ServerPtr try_take(SessionId session, TenantMark tenant);
    // Queues the waiter; its `done` fires when `end` is set. The caller removes it again with leave() if it gives up.
    void wait(PoolWaiter& waiter);
    void leave(PoolWaiter& waiter);
    // All waiters of this tenant look again where to go (a hold begins).
    void send_back(std::string_view tenant);

    void give_back(const ServerPtr& server);
    void on_server_closed(ServerConnection& server);
    void on_cancel_done(const ServerPtr& server);

    void set_credential(ServerCredential credential);
    [[nodiscard]] bool has_credential() const { return credential_.password || credential_.scram_keys; }
    void set_caps(BudgetCaps caps) { caps_ = caps; }
    [[nodiscard]] const BudgetCaps& caps() const { return caps_; }
    void count_prologue();
    // What many server connections report alike is one object: a look at it shows that nothing is to be told.
    [[nodiscard]] std::shared_ptr<const Settings> shared(const Settings& reported);
    [[nodiscard]] LatencyProbe& latency() { return latency_; }
    [[nodiscard]] const PoolKey& key() const { return key_; }
    // What a fresh connection reports; null until one was opened.
    // Null too while the server is suspected to have got other defaults since (its configuration was reloaded).
    [[nodiscard]] std::shared_ptr<const Settings> fresh_parameters() const;
    void doubt_fresh(std::string_view name, std::string_view value);                // reported, and no client is known to have set it
    void settle_fresh(const std::shared_ptr<const Settings>& reported, const Context& established);  // by a connection that was just reset
    [[nodiscard]] std::size_t idle_count() const { return idle_.size(); }
    [[nodiscard]] bool is_unused() const { return all_.empty() && waiting_ == 0 && opening_ == 0 && claimed_ == 0; }
    // Of its cluster and its database, for all threads.
    [[nodiscard]] const std::shared_ptr<ClusterPlaces>& places() const { return places_; }
    [[nodiscard]] const std::shared_ptr<DatabasePlaces>& database_places() const { return database_places_; }
    [[nodiscard]] const std::shared_ptr<PlaceShare>& nobodys_share() const { return nobodys_share_; }  // of sessions without a tenant

    bool close_one_idle();                        // the least recently used; false: none is idle
    void close_expired(SteadyTime now);           // idle too long, or too old
    void close_all_idle();
    void look_for_silence(SteadyTime now);        // every second: lent connections whose host is gone
    [[nodiscard]] const Error* trouble();         // why it has no server connection; null: because all are in use
    void dispatch();                              // waiters are served, or a connection is opened for them, as far as that may be
    void open_spare(std::size_t wanted);          // so that `wanted` connections are there or on their way
    [[nodiscard]] std::size_t ready_count() const { return all_.size(); }
    [[nodiscard]] std::size_t opening_count() const { return opening_ + spare_wanted_; }

  private:
    friend class PoolSet;
    void serve(PoolWaiter& waiter, ServerPtr server);
    PoolWaiter* next_waiter();
    void finish(PoolWaiter& waiter, PoolWaiter::End end);
    bool open_one();
    void fail_waiters(const Error& error);
    void tell_of_outage();
    void on_connect_failed(const Error& error, SteadyTime began);
    static Task<> open_connection(std::shared_ptr<Pool*> alive, Pool* self);
    [[nodiscard]] std::size_t thread_index() const;
    void stop_starving();

    // pool_exchange.cpp
    [[nodiscard]] std::size_t unserved() const;
    bool claim();
    void claim_what_is_needed();
    void on_claim_refused();
    bool hand_over_one(std::size_t to, bool is_claimed);
    void receive(ServerPtr server, bool is_claimed);
    void serve_others();
    void note_wanted();
    void note_idle();
    void note_open();
    void put_idle(ServerPtr server);
    static Task<Result<ServerPtr>> open_server(PoolSet& set, ServerOptions options);

    PoolSet& set_;
    PoolKey key_;
    LatencyProbe& latency_;
    BudgetCaps caps_;
    ServerCredential credential_;
    std::vector<ServerPtr> idle_;  // last used at the back
    std::vector<ServerPtr> all_;
    std::map<std::string, std::deque<PoolWaiter*>, std::less<>> waiters_;  // by tenant
    std::deque<std::string> turn_;                                          // tenants with waiters, next first
    std::size_t waiting_ = 0;
    std::size_t opening_ = 0;
    std::size_t spare_wanted_ = 0;
    std::size_t claimed_ = 0;  // asked for at other threads, and not yet answered
    std::uint32_t served_while_starving_ = 0;
    std::uint32_t served_while_wanted_ = 0;
    bool starving_ = false;
    ConnectPace own_pace_;           // what the server refuses to this user or for this database
    bool is_blocked_ = false;        // stands in its cluster's row: dispatch() is called when trying again makes sense
    std::shared_ptr<PoolPeers> peers_;
    BudgetLevel level_;
    std::shared_ptr<ClusterPlaces> places_;
    std::shared_ptr<DatabasePlaces> database_places_;
    std::shared_ptr<PlaceShare> nobodys_share_;
    std::shared_ptr<const Settings> fresh_parameters_;
    std::shared_ptr<const Settings> settled_by_;
    std::vector<std::string> doubtful_;  // names in fresh_parameters_
    std::shared_ptr<Pool*> alive_ = std::make_shared<Pool*>(this);  // detached work asks it whether the pool still exists
};

// The pools of one thread.
class PoolSet {
  public:
    // What all threads share; it outlives them.
    struct Shared {
        ServerBudget& budget;
        PlaceBook& places;
        PoolBook& book;
        PoolMetrics& metrics;
    };
    PoolSet(IoThread& thread, const Config& config, const Shared& shared);

    // A session keeps the pointer between transactions; a pool that nobody keeps and nobody waits in is dropped.
    std::shared_ptr<Pool> find_or_create(const PoolKey& key, const BudgetCaps& caps);
    // `database` empty: any of the cluster.
    [[nodiscard]] std::uint32_t count(const std::string& cluster, const std::string& database, bool opening) const;
    bool close_one_idle_of(const std::string& cluster, const std::string& database, const Pool* except);
    void send_back(std::string_view tenant);
    void close_all_idle();
    // Of this thread, or else of another one.
    void close_one_idle_of_any(const std::string& cluster, const std::string& database, const Pool* except);
    void close_homeless(ServerPtr server);

    [[nodiscard]] IoThread& thread() { return thread_; }
    [[nodiscard]] const Config& config() const { return config_; }
    [[nodiscard]] ServerBudget& budget() { return budget_; }
    [[nodiscard]] PoolMetrics& metrics() { return metrics_; }
    [[nodiscard]] PoolBook& book() { return book_; }
    [[nodiscard]] SharedValues<Settings>& reported() { return reported_; }

  private:
    friend class Pool;
    // How fast this thread connects to one cluster, and which pools wait for their turn at that.
    struct ClusterConnects {
        ClusterConnects(const LimitsConfig& limits, DeadlineWheel& wheel)
            : pace({limits.server_connects_max, limits.server_retry_ms_max, limits.server_outage_wait_ms_max}), next_try(wheel) {}
        ConnectPace pace;
        std::deque<std::shared_ptr<Pool*>> blocked;
        Deadline next_try;
    };
    ClusterConnects& connects_of(const ServerAddress& address);
    // False: the pool's dispatch() is called when it should ask again.
    [[nodiscard]] bool may_connect(Pool& pool);
    void wake_blocked(ClusterConnects& connects);
    void note_down(ClusterConnects& connects, bool was_down);
    [[nodiscard]] double jitter() { return std::uniform_real_distribution<double>(0, 1)(random_); }
    void sweep();  // every second: expired connections, unused pools, silent servers

    IoThread& thread_;
    const Config& config_;
    ServerBudget& budget_;
    PlaceBook& places_;
    PoolBook& book_;
    PoolMetrics& metrics_;
    SharedValues<Settings> reported_;  // what server connections have reported
    std::map<PoolKey, std::shared_ptr<Pool>> pools_;
    std::map<ServerAddress, ClusterConnects> connects_;
    std::minstd_rand random_{std::random_device{}()};
    Deadline sweep_deadline_;
};

}  // namespace pgporter
