// Client: one application connection with its own thread: chooses transactions, runs them, thinks in between, remembers all of it.
// Several of them run against the same tenants. It reconnects after a lost connection and counts that as the failure it is.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "tests/support/traffic/history.hpp"
#include "tests/support/traffic/workload.hpp"

namespace pgporter::traffic {

// What went wrong, by tenant, what was tried, SQLSTATE and message. Any thread.
class ErrorCounts {
  public:
    using Key = std::tuple<std::string, std::string, std::string, std::string>;
    void add(const std::string& tenant, const std::string& tried, const Error& error);
    [[nodiscard]] std::map<Key, std::uint64_t> all() const;

  private:
    mutable std::mutex mutex_;
    std::map<Key, std::uint64_t> counts_;
};

// Shared by all clients of a run: its phase, its end, and the counters that a status line shows. Any thread.
struct RunState {
    std::atomic<bool> stop{false};
    std::atomic<std::uint32_t> phase{0};
    std::atomic<std::uint64_t> transactions{0};
    std::atomic<std::uint64_t> failed{0};   // queries that failed, lost connections and failed logins included
    std::atomic<std::uint64_t> unknown{0};  // of these: lost while committing
    std::atomic<std::uint64_t> reconnects{0};
    std::atomic<std::uint64_t> wrong_tenant{0};
    std::atomic<std::uint64_t> stale_reads{0};
    std::atomic<std::uint64_t> wrong_answers{0};
    ErrorCounts errors;
};

struct ClientOptions {
    std::int64_t id = 0;
    std::uint64_t seed = 0;
    double rate = 0;                    // transactions a second; 0: no pause in between
    std::string dsn;                    // of this client's tenant; of no tenant when it names one in SQL
    std::vector<std::uint32_t> tenants;  // one, or those that it switches between in SQL before each transaction
};

class Client {
  public:
    Client(ClientOptions options, const std::vector<std::string>& tenant_names, RunState& state);

    void run();         // the thread's body; returns soon after state.stop
    void disconnect();  // from another thread: ends a wait for an answer that doesn't come
    [[nodiscard]] const std::vector<Record>& records() const { return records_; }  // after the thread has ended
    [[nodiscard]] std::uint32_t tenant() const { return options_.tenants.front(); }
    [[nodiscard]] bool is_switching() const { return options_.tenants.size() > 1; }
    [[nodiscard]] bool is_done() const { return done_; }

  private:
    [[nodiscard]] bool connect();
    void one_transaction();
    [[nodiscard]] Result<void> enter_tenant(TenantView& tenant);
    void note_error(const std::string& tenant, const std::string& tried, const Error& error);
    void think();

    ClientOptions options_;
    RunState& state_;
    Workload workload_;
    std::map<std::uint32_t, TenantView> views_;
    std::vector<Record> records_;
    std::atomic<int> socket_{-1};
    std::atomic<bool> done_{false};
    std::unique_ptr<Database> database_;
    std::uint32_t failed_logins_ = 0;  // in a row
};

}  // namespace pgporter::traffic
