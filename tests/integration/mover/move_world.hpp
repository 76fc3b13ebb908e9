// MoveWorld: everything a move needs, real but for the gate: a PostgreSQL server with the catalog, the source and the
// target, a Mover, and a tenant `acme` in a schema of its own. One per test case; ends what it started.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "admin/mover/mover.hpp"
#include "base/metrics.hpp"
#include "catalog/pg_connection.hpp"
#include "catalog/snapshot.hpp"
#include "catalog/store.hpp"
#include "tests/support/postgres_server.hpp"

namespace pgporter::test {

// A gate that really holds the transactions of those who ask it, as the data path does.
class HoldingGate final : public TenantGate {
  public:
    Result<HoldId> hold(std::string_view tenant, std::chrono::milliseconds hold_max) override;
    DrainStatus wait_drained(HoldId hold, std::chrono::milliseconds wait) override;
    bool release(HoldId hold) override;
    std::uint32_t warm(std::string_view tenant, const Placement& target, std::chrono::milliseconds wait) override;

    void begin_transaction();  // waits while held
    void end_transaction();
    [[nodiscard]] std::uint64_t holds() const;
    [[nodiscard]] bool held() const;

  private:
    [[nodiscard]] bool held_now() const;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t hold_ = 0;
    bool held_ = false;
    std::chrono::steady_clock::time_point until_;
    std::uint32_t running_ = 0;
};

// A journal that passes everything on to the real one, and fails when it is told to.
class FailingJournal final : public MoveJournal {
  public:
    explicit FailingJournal(MoveJournal& real) : real_(real) {}
    // The next advance to this state fails as if the catalog were away: `before` or after it was written.
    void fail_advance(MoveState to, bool written, int times = 1);
    void fail_flip(bool written, int times = 1);
    // What an instance's follower does: reads the catalog again after a change of it.
    std::function<void()> on_change;

    Result<MoveRecord> create_move(const MoveRequest& request, const Placement& source, const Placement& target,
                                   Epoch epoch, std::uint32_t unfinished_max) override;
    Result<std::vector<QueueEntry>> queue() override;
    Result<bool> admit(MoveId move, const QueueLimits& limits) override;
    Result<void> advance(MoveId move, MoveState from, MoveState to, std::string_view note) override;
    Result<void> save_progress(MoveId move, const MoveProgress& progress) override;
    Result<Tenant> flip(MoveId move, Epoch expected, CatalogVersion& version_out) override;
    Result<MoveRecord> find_move(MoveId move) override;
    Result<std::vector<MoveRecord>> list_moves(bool unfinished_only) override;
    Result<std::int64_t> add_cleanup(const CleanupRecord& record) override;
    Result<void> cleanup_done(std::int64_t id) override;
    Result<std::vector<CleanupRecord>> open_cleanups(MoveId move) override;
    Result<void> describe_target_database(MoveId move) override;
    Result<void> forget_target_database(MoveId move) override;
    Result<std::unique_ptr<MoveOwnership>> own_move(MoveId move) override;

  private:
    struct Failure {
        bool written = false;
        int times = 0;
    };
    MoveJournal& real_;
    std::mutex mutex_;
    std::map<MoveState, Failure> advances_;
    Failure flip_;
};

class MoveWorld {
  public:
    explicit MoveWorld(bool two_servers = false);
    ~MoveWorld();

    PostgresServer& source_server() { return source_server_; }
    PostgresServer& target_server() { return two_servers_ ? target_server_ : source_server_; }
    HoldingGate& gate() { return gate_; }
    FailingJournal& journal() { return *journal_; }
    Mover& mover() { return *mover_; }
    SnapshotPublisher& publisher() { return publisher_; }
    CatalogStore& store() { return *store_; }
    Config& config() { return config_; }
    metrics::Registry& registry() { return registry_; }
    void add_tenant(const std::string& name);  // in the schema of its name, which exists
    void set_latency(NeighbourLatency* latency) {
        latency_ = latency;
        restart_mover();
    }
    void restart_mover();  // as a new process would begin: only the journal remembers

    [[nodiscard]] MoveRequest request() const;
    // Waits until the move is in one of these states and returns its record; fails the test after the time.
    MoveRecord wait_for(MoveId move, const std::vector<MoveState>& states,
                        std::chrono::seconds within = std::chrono::seconds(90));
    MoveRecord run(const MoveRequest& request, MoveState end);

    // One connection per call; the rows of the last statement as text, columns by '|', rows by line.
    static std::string sql(PostgresServer& server, const std::string& database, const std::string& statement);
    std::string on_source(const std::string& statement) { return sql(source_server(), "shared", statement); }
    std::string on_target(const std::string& statement) { return sql(target_server(), "acme_own", statement); }
    bool target_exists();
    // What moves leave behind on both sides; empty when there is nothing.
    std::string artefacts();
    // A text per table that is the same on both sides when all rows are.
    std::string fingerprint(PostgresServer& server, const std::string& database);
    [[nodiscard]] std::string where_tenant_lives() const;

  private:
    bool two_servers_;
    PostgresServer source_server_;
    PostgresServer target_server_;
    Config config_;
    CatalogDocument document_;
    std::unique_ptr<CatalogStore> store_;
    std::unique_ptr<FailingJournal> journal_;
    HoldingGate gate_;
    NeighbourLatency* latency_ = nullptr;
    SnapshotPublisher publisher_;
    metrics::Registry registry_;
    std::unique_ptr<Mover> mover_;
};

// A schema with something of everything that PostgreSQL offers and applications use.
extern const char* const acme_schema;

}  // namespace pgporter::test
