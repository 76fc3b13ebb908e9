#include "proxy/session/worker.hpp"

#include <openssl/crypto.h>

#include <algorithm>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "catalog/server_access.hpp"
#include "proxy/net/process_limits.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/auth_crypto.hpp"

namespace pgporter {

namespace {

// From the instances' common secrets, of which it tells nothing: an unknown user's salt is the same at every instance and after a restart,
// as a known one's is. Without any secret: random.
std::string mock_secret_of(const Config& config) {
    std::string secrets;
    const auto add = [&](const Secret& secret) { secrets += std::to_string(secret.reveal().size()) + ':' + std::string(secret.reveal()); };
    add(config.catalog.password);
    for (const ServerLoginConfig& login : config.server_logins) add(login.password);
    const bool has_none = config.catalog.password.empty() && std::all_of(config.server_logins.begin(), config.server_logins.end(),
                                                                          [](const ServerLoginConfig& login) { return login.password.empty(); });
    if (has_none) return random_bytes(32);
    const Sha256 derived = hmac_sha256(secrets, "pgporter: what unknown users look like");
    OPENSSL_cleanse(secrets.data(), secrets.size());
    return std::string(as_text(derived));
}

}  // namespace

DataPathShared::DataPathShared(const Config& configuration, metrics::Registry& metric_registry)
    : config(configuration),
      registry(metric_registry),
      ledger(metric_registry, configuration.metrics_tenants_max),
      pool_book(configuration.threads),
      memory(configuration.limits.buffered_mib_max == 0 ? memory_bytes_max() / 2 : std::uint64_t{configuration.limits.buffered_mib_max} << 20,
             metric_registry),
      pool_metrics(metric_registry),
      session_metrics(metric_registry),
      tls_metrics(metric_registry),
      cancels(configuration.instance_id),
      login_throttle({configuration.limits.auth_failures_max, configuration.limits.auth_failure_window_ms,
                      configuration.limits.auth_failure_addresses_max, configuration.limits.logins_per_address_max}),
      mock_secret(mock_secret_of(configuration)) {}

Worker::Worker(DataPathShared& shared, std::size_t index)
    : clients(shared.registry.gauge("pgporter_thread_clients", "Client connections by I/O thread.", {{"thread", std::to_string(index)}})),
      shared_(shared),
      thread_(index),
      pools_(thread_, shared.config, {shared.budget, shared.places, shared.pool_book, shared.pool_metrics}),
      statements_(index, shared.config.threads) {}

Worker::~Worker() {
    thread_.stop();
}

void Worker::set_snapshot(SnapshotPtr snapshot) {
    snapshot_ = std::move(snapshot);
    std::vector<std::shared_ptr<Session>> all;  // a session that ends leaves the map
    all.reserve(sessions_.size());
    for (const auto& [id, session] : sessions_) all.push_back(session);
    for (const auto& session : all) session->on_snapshot();
}

const StatementPtr& Worker::setter() {
    constexpr std::string_view definition("SELECT pg_catalog.set_config($1, $2, false)\0\0\0", 46);
    if (!setter_) setter_ = statements_.find_or_create("", definition);
    return setter_;
}

const StatementPtr& Worker::local_setter() {
    constexpr std::string_view definition("SELECT pg_catalog.set_config($1, $2, true)\0\0\0", 45);
    if (!local_setter_) local_setter_ = statements_.find_or_create("", definition);
    return local_setter_;
}

const StatementPtr& Worker::path_resetter() {
    if (!path_resetter_) path_resetter_ = statements_.find_or_create("", std::string(path_reset) + std::string(3, '\0'));
    return path_resetter_;
}

void Worker::note_changed_tables(const std::string& tenant) {
    statements_.renew(tenant);
    reused_texts_.forget_all();
    for (const auto& other : shared_.workers) {
        if (other.get() == this) continue;
        other->thread().post([worker = other.get(), tenant] {
            worker->statements_.renew(tenant);
            worker->reused_texts_.forget_all();
        });
    }
}

void Worker::note_new_objects() {
    reused_texts_.forget_all();
    for (const auto& other : shared_.workers) {
        if (other.get() != this) other->thread().post([worker = other.get()] { worker->reused_texts_.forget_all(); });
    }
}

void Worker::add(const std::shared_ptr<Session>& session) {
    sessions_[session->id()] = session;
}

void Worker::remove(SessionId session) {
    sessions_.erase(session);
}

std::shared_ptr<Session> Worker::find(SessionId session) const {
    const auto at = sessions_.find(session);
    return at == sessions_.end() ? nullptr : at->second;
}

TenantDesk& Worker::desk(const std::string& tenant) {
    auto& slot = desks_[tenant];
    if (!slot) slot = std::make_unique<TenantDesk>(index(), thread_.wheel(), tenant, shared_.ledger);
    return *slot;
}

void Worker::cancel(SessionId session, std::function<void()> handled) {
    if (const auto found = find(session)) return found->cancel_request(std::move(handled));
    handled();
}

std::shared_ptr<Pool> Worker::pool_for(const std::string& cluster, const std::string& database, const std::string& user,
                                       const std::shared_ptr<const ScramKeys>& learned) {
    const Cluster* entry = snapshot_ ? snapshot_->find_cluster(cluster) : nullptr;
    if (entry == nullptr) return nullptr;
    const Database* database_entry = snapshot_->find_database(cluster, database);
    const BudgetCaps caps{entry->server_connections_max, database_entry == nullptr ? 0 : database_entry->server_connections_max};
    std::shared_ptr<Pool> pool = pools_.find_or_create({ServerAddress(*entry), database, user}, caps);
    const Secret* configured = find_server_login(config(), cluster, user);
    if (configured != nullptr || learned != nullptr) {
        pool->set_credential({configured == nullptr ? std::nullopt : std::optional<Secret>(*configured), learned});
    }
    return pool;
}

void Worker::warm(const std::string& tenant, const Placement& target) {
    constexpr std::size_t warm_max = 16;
    struct Speaker {
        std::size_t sessions = 0;
        std::shared_ptr<const ScramKeys> keys;
    };
    std::map<std::string, Speaker> speakers;
    for (const auto& [id, session] : sessions_) {
        if (session->tenant_name() != tenant) continue;
        Speaker& speaker = speakers[session->user()];
        ++speaker.sessions;
        speaker.keys = session->learned_keys();
    }
    for (const auto& [user, speaker] : speakers) {
        if (const auto pool = pool_for(target.cluster, target.database, user, speaker.keys)) {
            pool->open_spare(std::min(speaker.sessions, warm_max));
        }
    }
}

std::uint32_t Worker::count_opening(const Placement& target) const {
    return pools_.count(target.cluster, target.database, true);
}

std::uint32_t Worker::count_ready(const Placement& target) const {
    return pools_.count(target.cluster, target.database, false);
}

void Worker::drain() {
    std::vector<std::shared_ptr<Session>> all;
    for (const auto& [id, session] : sessions_) all.push_back(session);
    for (const auto& session : all) session->drain();
}

void Worker::end_all() {
    std::vector<std::shared_ptr<Session>> all;
    for (const auto& [id, session] : sessions_) all.push_back(session);
    const Error error = client_error::shutting_down();
    for (const auto& session : all) session->end(EndReason::administrator, &error);
    pools_.close_all_idle();
}

}  // namespace pgporter
