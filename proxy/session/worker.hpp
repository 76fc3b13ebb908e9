// Worker: everything of the data path on one I/O thread: its sessions, pools, tenant desks and its copy of the snapshot pointer.
// DataPath: the workers and what they share. Owned by proxy/app. A Worker is used on its own thread only; others post.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "catalog/config.hpp"
#include "catalog/snapshot.hpp"
#include "proxy/net/io_thread.hpp"
#include "proxy/pool/cluster_places.hpp"
#include "proxy/pool/pool.hpp"
#include "proxy/session/cancel_registry.hpp"
#include "proxy/session/coalescer.hpp"
#include "proxy/session/known_sets.hpp"
#include "proxy/session/session_context.hpp"
#include "proxy/session/login_throttle.hpp"
#include "proxy/session/memory_budget.hpp"
#include "proxy/session/prepared_statements.hpp"
#include "proxy/session/reused_texts.hpp"
#include "proxy/session/session_metrics.hpp"
#include "proxy/session/tenant_desk.hpp"
#include "proxy/session/tls_metrics.hpp"
#include "proxy/session/verifier_cache.hpp"

namespace pgporter {

class Session;
class Worker;

inline constexpr std::string_view path_reset = "SET LOCAL search_path TO DEFAULT";

// Shared by all workers; each member is thread-safe by itself.
struct DataPathShared {
    DataPathShared(const Config& configuration, metrics::Registry& registry);

    const Config& config;
    metrics::Registry& registry;
    TenantLedger ledger;
    ServerBudget budget;
    PlaceBook places;
    PoolBook pool_book;
    MemoryBudget memory;
    MemoryBudget::TenantBytes home_bytes{0};  // of sessions without a tenant
    PoolMetrics pool_metrics;
    SessionMetrics session_metrics;
    TlsMetrics tls_metrics;
    CancelRegistry cancels;
    LoginThrottle login_throttle;
    VerifierCache verifiers;
    std::string mock_secret;  // makes unknown users look alike and stable
    std::atomic<std::uint64_t> last_session{0};
    std::atomic<ParseMoment> last_parse_moment{0};
    std::atomic<std::uint32_t> sessions{0};  // logged in
    std::atomic<std::uint32_t> logins{0};    // not yet
    std::atomic<std::uint32_t> waiting{0};   // transactions in some queue
    std::atomic<std::uint32_t> cancels_in_flight{0};
    std::atomic<std::uint32_t> cancel_forwards_in_flight{0};
    std::atomic<bool> draining{false};
    std::atomic<std::uint32_t> server_connections_max{0};  // of all clusters in the catalog
    std::vector<std::unique_ptr<Worker>> workers;
    // Set before the workers start; any thread may call them, they don't block. What the instances of one catalog know of each other.
    std::function<void(const std::string& tenant)> on_fence_met;
    std::function<bool()> hears_all;  // false: a move may have gone unheard
};

// The last values of a kind: who has an equal one gets the same. Linear: to be asked once a login.
template <class T>
class Recent {
  public:
    [[nodiscard]] std::shared_ptr<const T> shared(T value) {
        for (const auto& known : known_) {
            if (known && *known == value) return known;
        }
        return known_[next_++ % known_.size()] = std::make_shared<const T>(std::move(value));
    }

  private:
    std::array<std::shared_ptr<const T>, 16> known_;
    std::size_t next_ = 0;
};

class Worker {
  public:
    Worker(DataPathShared& shared, std::size_t index);
    ~Worker();

    // On the thread.
    void set_snapshot(SnapshotPtr snapshot);
    void add(const std::shared_ptr<Session>& session);
    void remove(SessionId session);
    [[nodiscard]] std::shared_ptr<Session> find(SessionId session) const;
    TenantDesk& desk(const std::string& tenant);
    void cancel(SessionId session, std::function<void()> handled);  // `handled` is called once, on this thread
    void warm(const std::string& tenant, const Placement& target);
    [[nodiscard]] std::uint32_t count_ready(const Placement& target) const;    // server connections to there
    [[nodiscard]] std::uint32_t count_opening(const Placement& target) const;  // wanted or on their way
    void drain();    // idle sessions end now, the others at their next safe point
    void end_all();  // now
    // The pool for a place and a user, with the credential that the configuration has for it, if any.
    std::shared_ptr<Pool> pool_for(const std::string& cluster, const std::string& database, const std::string& user,
                                   const std::shared_ptr<const ScramKeys>& learned);

    [[nodiscard]] DataPathShared& shared() { return shared_; }
    [[nodiscard]] const Config& config() const { return shared_.config; }
    [[nodiscard]] IoThread& thread() { return thread_; }
    [[nodiscard]] PoolSet& pools() { return pools_; }
    [[nodiscard]] const SnapshotPtr& snapshot() const { return snapshot_; }
    [[nodiscard]] StatementRegistry& statements() { return statements_; }
    [[nodiscard]] ParseMoment next_moment() { return ++shared_.last_parse_moment; }
    void note_changed_tables(const std::string& tenant);  // all workers are told
    void note_new_objects();                              // likewise
    [[nodiscard]] ReusedTexts& reused_texts() { return reused_texts_; }
    [[nodiscard]] KnownSets& known_sets() { return known_sets_; }
    [[nodiscard]] AllSettingMessages& setting_messages() { return setting_messages_; }
    [[nodiscard]] Recent<SessionContext>& contexts() { return contexts_; }
    [[nodiscard]] Recent<Settings>& reports() { return reports_; }  // what clients were told at login
    // Our own statement that sets a run-time parameter.
    [[nodiscard]] const StatementPtr& setter();
    [[nodiscard]] const StatementPtr& local_setter();   // until the transaction ends
    [[nodiscard]] const StatementPtr& path_resetter();  // path_reset
    [[nodiscard]] std::size_t index() const { return thread_.index(); }
    [[nodiscard]] Coalescer& to_client() { return to_client_; }
    [[nodiscard]] Coalescer& to_server() { return to_server_; }
    metrics::Gauge& clients;  // handed to this thread, and not gone; any thread may look
    // Texts that are done with: the next ones need no memory of their own.
    [[nodiscard]] std::string spare_text() {
        if (spare_texts_.empty()) return {};
        std::string text = std::move(spare_texts_.back());
        spare_texts_.pop_back();
        return text;
    }
    void keep_text(std::string text) {
        constexpr std::size_t bytes_max = 4'096;
        constexpr std::size_t texts_max = 64;
        const bool is_of_use = text.capacity() > std::string().capacity() && text.capacity() <= bytes_max;
        if (!is_of_use || spare_texts_.size() >= texts_max) return;
        if (spare_texts_.capacity() == 0) spare_texts_.reserve(texts_max);
        spare_texts_.push_back(std::move(text));
    }

  private:
    DataPathShared& shared_;
    IoThread thread_;
    PoolSet pools_;
    StatementRegistry statements_;
    ReusedTexts reused_texts_;
    KnownSets known_sets_;
    AllSettingMessages setting_messages_;
    Recent<SessionContext> contexts_;
    Recent<Settings> reports_;
    StatementPtr setter_;
    StatementPtr local_setter_;
    StatementPtr path_resetter_;
    SnapshotPtr snapshot_;
    std::unordered_map<std::string, std::unique_ptr<TenantDesk>> desks_;
    std::unordered_map<SessionId, std::shared_ptr<Session>> sessions_;
    std::vector<std::string> spare_texts_;
    Coalescer to_client_;
    Coalescer to_server_;
};

}  // namespace pgporter
