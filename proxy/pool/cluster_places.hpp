// ClusterPlaces: how many server connections of a cluster work for whom at once. Below the hard caps of ServerBudget, which counts connections,
// it counts the transactions that have one, and decides between tenants:
//
// - server_connections_min of a tenant is kept free for it, that of a database for whoever works in it, besides what its tenants are promised;
// - a reserve (limits.fair_reserve_percent of the cap) is open only to tenants below their fair share, which is the cap by the number of tenants
//   that worked there in the last seconds: whoever floods the cluster leaves room for those who ask for little;
// - who waits is served in the order of the server time that its tenant has used while there were waiters (start-time fair queueing), within a tenant
//   first come first served. A place's server connection is idle on the thread that gave it back: somebody of that thread may be served
//   before who is next, so many times at most, if his tenant has used about as little;
// - server_connections_max of a tenant is the most it has at once. Who waits for that alone stands aside, and nobody else's transactions notice;
//   so do those who wait for a place in a full database, however many they are.
//
// Shared by all threads; no lock is taken as long as nobody waits. It must not: know a session or a server connection.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pgporter {

struct DatabasePlaces;

// What all threads know of one tenant on one cluster.
struct PlaceShare {
    std::atomic<std::uint32_t> places{0};
    std::atomic<std::uint32_t> waiting{0};
    std::atomic<std::uint32_t> promised{0};     // of these, those of server_connections_min
    std::atomic<std::uint32_t> seen_in{0};      // the period in which it last asked for a place
    std::atomic<std::uint32_t> seen_before{0};  // and the one before that
    // Under the cluster's lock:
    std::uint64_t used_us = 0;  // its virtual time
    enum class Aside : std::uint8_t { no, for_own_cap, for_database } aside = Aside::no;
    DatabasePlaces* aside_in = nullptr;  // for_database
};

using SharesByTime = std::set<std::pair<std::uint64_t, PlaceShare*>>;  // by used_us

struct DatabasePlaces {
    std::atomic<std::uint32_t> places{0};
    std::atomic<std::uint32_t> promised{0};  // of these, those of the database's server_connections_min
    SharesByTime aside;                      // who waits for this database alone; under the cluster's lock
};

struct PlaceCaps {
    std::uint32_t cluster_max = 0;
    std::uint32_t database_max = 0;      // 0: none
    std::uint32_t promised_sum = 0;      // to all tenants and databases of the cluster
    std::uint32_t promised = 0;          // to this tenant
    std::uint32_t database_promised = 0; // to this database
    std::uint32_t reserve_percent = 0;
    std::uint32_t tenant_max = 0;        // 0: none
};

class ClusterPlaces;

// One place. Moves; gives itself back.
class Place {
  public:
    Place() = default;
    Place(Place&& other) noexcept { swap(other); }
    Place& operator=(Place&& other) noexcept {
        Place taken(std::move(other));
        swap(taken);
        return *this;
    }
    ~Place() { give_back(); }
    [[nodiscard]] explicit operator bool() const { return cluster_ != nullptr; }
    [[nodiscard]] bool is_of(const ClusterPlaces* cluster, const PlaceShare* share) const { return cluster_.get() == cluster && share_.get() == share; }
    void give_back();

  private:
    friend class ClusterPlaces;
    void swap(Place& other) noexcept {
        std::swap(cluster_, other.cluster_);
        std::swap(share_, other.share_);
        std::swap(database_, other.database_);
        std::swap(since_us_, other.since_us_);
        std::swap(promised_to_, other.promised_to_);
        std::swap(thread_, other.thread_);
    }
    std::shared_ptr<ClusterPlaces> cluster_;
    std::shared_ptr<PlaceShare> share_;
    std::shared_ptr<DatabasePlaces> database_;
    std::uint64_t since_us_ = 0;  // 0: nobody waited then
    enum class Promised : std::uint8_t { to_nobody, to_tenant, to_database } promised_to_ = Promised::to_nobody;
    std::uint32_t thread_ = 0;    // that has the server connection
};

// Somebody who waits for a place. Shared by the waiter and the queue.
struct PlaceTicket {
    std::shared_ptr<PlaceShare> share;
    std::shared_ptr<DatabasePlaces> database;
    PlaceCaps caps;
    std::uint32_t thread = 0;
    std::uint32_t overtaken = 0;
    std::function<void()> wake;  // called once, on any thread, when the place is there
    Place place;                 // behind leave(): the waiter's
    bool is_queued = false;
};

class ClusterPlaces : public std::enable_shared_from_this<ClusterPlaces> {
  public:
    // At once, or none.
    [[nodiscard]] Place try_take(const std::shared_ptr<PlaceShare>& share, const std::shared_ptr<DatabasePlaces>& database, const PlaceCaps& caps,
                                 std::uint32_t thread = 0);
    // A transaction that has a place already works for this tenant, too: counts for its cap, whether or not that is reached.
    [[nodiscard]] Place visit(const std::shared_ptr<PlaceShare>& share);
    void wait(const std::shared_ptr<PlaceTicket>& ticket);
    // Ends a wait, whether or not the place has come; if it has, it is the ticket's.
    void leave(const std::shared_ptr<PlaceTicket>& ticket);
    // Every second or so, from any thread: who worked of late.
    void tick(std::chrono::steady_clock::time_point now);

    [[nodiscard]] std::uint32_t used() const { return places_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint32_t others_at_work(const PlaceShare& share) const;
    [[nodiscard]] std::size_t waiting() const { return waiting_.load(std::memory_order_relaxed); }
    // Of this cluster, for all threads; they stay.
    [[nodiscard]] std::shared_ptr<PlaceShare> share(const std::string& tenant);
    [[nodiscard]] std::shared_ptr<DatabasePlaces> database(const std::string& name);

  private:
    friend class Place;
    using Queue = std::deque<std::shared_ptr<PlaceTicket>>;

    enum class Taken { ordinary, of_tenant, of_database, cluster_is_full, database_is_full, tenant_is_full, not_open };
    [[nodiscard]] static bool is_place(Taken taken) { return taken <= Taken::of_database; }
    [[nodiscard]] Taken take(PlaceShare& share, DatabasePlaces& database, const PlaceCaps& caps);
    void note_at_work(PlaceShare& share);
    [[nodiscard]] Place place_of(const std::shared_ptr<PlaceShare>& share, const std::shared_ptr<DatabasePlaces>& database, Taken taken,
                                 std::uint32_t thread);
    void give_back(Place& place);
    // With the lock:
    void serve(std::optional<std::uint32_t> thread);
    void line_up(PlaceShare& share);
    void line_up_for_databases();
    void step_aside(PlaceShare& share);
    void step_aside(PlaceShare& share, DatabasePlaces& database);
    [[nodiscard]] bool leave_order(PlaceShare& share);  // false: it isn't in it
    [[nodiscard]] std::shared_ptr<PlaceTicket> next_of(std::uint32_t thread, const PlaceTicket& first) const;
    void remove(const std::shared_ptr<PlaceTicket>& ticket);

    alignas(64) std::atomic<std::uint32_t> places_{0};  // what every transaction changes, apart from what it only reads
    alignas(64) std::atomic<std::uint32_t> promised_{0};  // places in use that were kept free
    std::atomic<std::size_t> waiting_{0};       // without those that wait for their own cap
    std::atomic<bool> is_contended_{false};     // somebody waited in this period or the last
    std::atomic<std::uint32_t> period_{1};
    std::atomic<std::uint32_t> seen_now_{0};
    std::atomic<std::uint32_t> seen_before_{0};
    std::atomic<std::int64_t> ticked_at_{0};

    std::mutex mutex_;
    std::map<PlaceShare*, Queue> queues_;
    SharesByTime order_;                      // of the queues that don't stand aside
    std::set<DatabasePlaces*> full_databases_;  // for which somebody stands aside
    std::uint64_t served_us_ = 0;             // the virtual time of whoever was served last
    std::map<std::string, std::shared_ptr<DatabasePlaces>> databases_;
    std::unordered_map<std::string, std::shared_ptr<PlaceShare>> shares_;
    bool waited_before_ = false;
    std::uint32_t newest_max_ = 0;  // cluster_max, as who began to wait last knows it
};

// The clusters' places, for all threads.
class PlaceBook {
  public:
    [[nodiscard]] std::shared_ptr<ClusterPlaces> cluster(const std::string& name);
    void tick(std::chrono::steady_clock::time_point now);

  private:
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<ClusterPlaces>> clusters_;
};

}  // namespace pgporter
