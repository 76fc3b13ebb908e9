// A session whose client wants to replicate: no pool, no prologue, no gate; a server connection of its own and bytes both ways
// (replication_relay.hpp).
//
// Whoever may replicate can read a whole cluster, past every tenant's fence. So the listener must allow it, the user must be one who may
// speak for every tenant, and PostgreSQL still asks for the role's REPLICATION attribute.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "catalog/server_access.hpp"
#include "proxy/session/replication_relay.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {
namespace {

// How often a connection that waits for a place under the caps looks again. It stands in no queue: whoever works goes first.
constexpr Milliseconds place_retry_ms{50};

}  // namespace

Task<Result<void>> Session::wait_for_replication_place(BudgetKey key, BudgetCaps caps) {
    place_ = places_->visit(share_);  // counts for the tenant's cap for as long as it lasts; it isn't one of those that transactions share
    if (place_caps_.tenant_max != 0 && share_->places.load() > place_caps_.tenant_max) {
        place_.give_back();
        co_return client_error::no_replication_place();
    }
    PoolSet& pools = worker_.pools();
    const auto give_up = std::chrono::steady_clock::now() + worker_.config().limits.wait_ms_max;
    Timer timer(worker_.thread().executor());
    while (!pools.budget().take(key, caps)) {
        if (end_reason_ != EndReason::none || std::chrono::steady_clock::now() > give_up) {
            place_.give_back();
            co_return client_error::no_replication_place();
        }
        // Where the database's own cap stops us, only a connection to that database helps.
        const std::string database = pools.budget().used(key.cluster) >= caps.cluster_max ? std::string() : key.database;
        pools.close_one_idle_of_any(key.cluster, database, nullptr);
        timer.expires_after(place_retry_ms);
        [[maybe_unused]] const auto [cancelled] = co_await timer.async_wait(as_result);
    }
    co_return Result<void>{};
}

Task<Result<void>> Session::begin_replication() {
    const SnapshotPtr snapshot = worker_.snapshot();
    const User* user = user_entry();
    if (user != nullptr && !user->all_tenants) co_return client_error::replication_forbidden(identity_.user);
    const PoolKey where = pool_->key();
    const Cluster* cluster = snapshot->find_cluster(where.address.cluster);
    if (cluster == nullptr) co_return client_error::server_lost();
    const Database* database = snapshot->find_database(where.address.cluster, where.database);
    const BudgetKey key{where.address.cluster, where.database};
    Result<void> placed =
        co_await wait_for_replication_place(key, {cluster->server_connections_max, database == nullptr ? 0 : database->server_connections_max});
    if (!placed) co_return placed.error();
    ServerOptions options{where.address, where.database, identity_.user, {}, worker_.config().limits.server_connect_ms_max};
    options.silent_ms_max = worker_.config().limits.server_silent_ms_max;
    const Secret* configured = find_server_login(worker_.config(), where.address.cluster, identity_.user);
    options.credential = {configured == nullptr ? std::nullopt : std::optional<Secret>(*configured), learned_keys_};
    options.startup_parameters = identity_.settings;
    options.startup_parameters.emplace_back("replication", replication_ == ReplicationMode::database ? "database" : "true");
    Result<ServerPtr> opened = co_await ServerConnection::open(worker_.thread(), std::move(options));
    if (!opened || end_reason_ != EndReason::none) {
        worker_.pools().budget().give_back(key);
        place_.give_back();
        if (!opened) co_return opened.error();
        co_return client_error::cancelled();
    }
    worker_.shared().session_metrics.pinned_replication.add(1);
    worker_.shared().pool_metrics.server_connections.add(1);
    relay_ = std::make_unique<ReplicationRelay>(**opened, [this, key] {
        worker_.shared().session_metrics.pinned_replication.add(-1);
        worker_.shared().pool_metrics.server_connections.add(-1);
        worker_.pools().budget().give_back(key);
        place_.give_back();
    });
    std::string text;
    for (const auto& [name, value] : *(*opened)->reported()) text += message::parameter_status(name, value);
    cancel_key_ = worker_.shared().cancels.add({worker_.index(), id_}, protocol_minor_);
    has_cancel_key_ = true;
    text += message::backend_key_data(cancel_key_.pid, cancel_key_.secret);
    text += message::ready_for_query('I');
    client_out_.write(client_, text);
    co_return Result<void>{};
}

Task<> Session::replicate_to_client(std::shared_ptr<Session> self) {
    const bool server_ended = co_await self->relay_->to_client(self->client_, self->deadline_, self->worker_.config().limits.client_write_ms_max);
    // After a Terminate both sides close.
    const bool client_ended = self->client_.is_open() && self->client_.is_closed_by_peer();
    self->end(client_ended ? EndReason::client_terminated : server_ended ? EndReason::server_lost : EndReason::client_lost, nullptr);
}

Task<> Session::replicate() {
    if (draining_) {  // since the login
        end_replication(*safe_end_error_);
        co_return;
    }
    asio::co_spawn(worker_.thread().executor(), replicate_to_client(shared_from_this()), asio::detached);
    const bool client_ended = co_await relay_->to_server(client_, std::move(login_input_));
    end(client_ended ? EndReason::client_terminated : EndReason::client_lost, nullptr);
}

bool Session::may_replicate_on() const {
    const Snapshot& snapshot = *worker_.snapshot();
    const User* user = user_entry();
    if (user != nullptr && !user->all_tenants) return false;
    const Result<Route> now = route(snapshot, worker_.config().home, user, identity_.tenant, identity_.database);
    return now && pool_ && now->cluster == pool_->key().address.cluster && now->database == pool_->key().database;
}

// There is no transaction to wait for; but nothing of ours may get into the middle of a message.
void Session::end_replication(const Error& error) {
    end(EndReason::administrator, relay_->is_between_messages() && client_out_.is_empty() ? &error : nullptr);
}

}  // namespace pgporter
