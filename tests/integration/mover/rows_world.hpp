// RowsWorld: a MoveWorld whose server also has database `crm`, shared by the tenants red (key 1), green (2) and blue (3) as
// rows of its tables, kept apart by policies that read app.tenant. RowsTraffic: clients of all three at work.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/mover/move_world.hpp"

namespace pgporter::test {

class RowsWorld {
  public:
    explicit RowsWorld(bool two_servers = false);
    void make_keys_safe();  // no unique index in which tenants could meet: moves have a way back

    MoveWorld& moves() { return world_; }
    [[nodiscard]] MoveRequest request() const;  // red to its own database, red_own
    MoveRecord run(MoveState end) { return world_.run(request(), end); }
    std::string on_crm(const std::string& statement) { return MoveWorld::sql(world_.source_server(), "crm", statement); }
    std::string on_own(const std::string& statement) { return MoveWorld::sql(world_.target_server(), "red_own", statement); }
    // As the application, for a tenant: bound by the policies.
    std::string as_app(PostgresServer& server, const std::string& database, int key, const std::string& statement);
    bool target_exists();
    // What a move leaves behind on both sides and in the catalog; empty when there is nothing.
    std::string artefacts();
    // A text per table that is the same when the rows are: of one tenant on the source, or of all rows of the target.
    std::string source_rows(const std::string& keys) { return rows_of(world_.source_server(), "crm", "tenant_id IN (" + keys + ")"); }
    std::string target_rows() { return rows_of(world_.target_server(), "red_own", "true"); }
    [[nodiscard]] std::string where_red_lives();
    void reload();  // as a follower would

  private:
    std::string rows_of(PostgresServer& server, const std::string& database, const std::string& condition);
    MoveWorld world_;
};

// Two clients for each tenant, through the gate and to where the tenant lives; one that moves rows between tenants, and one that
// writes red's rows on the source whatever the catalog says. Each remembers what was acknowledged.
class RowsTraffic {
  public:
    explicit RowsTraffic(RowsWorld& world) : world_(world) {}
    ~RowsTraffic() { stop(); }

    void start();
    void stop();
    void stop_red_at_flip() { stop_red_at_flip_.store(true); }
    void leave_global_tables_alone() { spares_globals_.store(true); }
    void stay_away_from_the_source() { only_the_proxys_.store(true); }  // nobody reassigns rows there, or goes past the catalog
    void wait_for_more(std::uint64_t transactions);  // of every client that still works
    [[nodiscard]] std::string failures() const;
    [[nodiscard]] std::string judge();  // what is missing or doubled; empty when all is well
    [[nodiscard]] bool bypass_was_refused() const { return refused_.load(); }
    [[nodiscard]] double slowest_neighbour_ms() const { return static_cast<double>(slowest_us_.load()) / 1'000; }

  private:
    static constexpr int clients_per_tenant = 2;
    static constexpr int bypass = 90;
    void write(int tenant, int client);
    void reassign();
    void go_around();
    void note_failure(const std::string& who, const Error& error);

    RowsWorld& world_;
    std::vector<std::thread> threads_;
    std::map<std::pair<int, int>, std::int64_t> last_;  // of (tenant, client): the last acknowledged number
    std::atomic<bool> stopping_{false};
    std::atomic<bool> stop_red_at_flip_{false};
    std::atomic<bool> spares_globals_{false};
    std::atomic<bool> only_the_proxys_{false};
    std::atomic<bool> refused_{false};
    std::atomic<std::uint64_t> acknowledged_{0};
    std::atomic<std::int64_t> slowest_us_{0};
    mutable std::mutex mutex_;
    std::string failures_;
};

}  // namespace pgporter::test
