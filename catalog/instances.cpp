#include "catalog/instances.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "catalog/instance_holds.hpp"
#include "catalog/instance_message.hpp"
#include "catalog/store_connection.hpp"

namespace pgporter {
namespace {

using Clock = std::chrono::steady_clock;
using Kind = InstanceMessage::Kind;

constexpr Milliseconds tick_every{1'000};
constexpr Milliseconds answer_max{2'000};      // of the catalog to anything that is asked here
constexpr Milliseconds heard_within{3'000};    // a tick and its answer; longer ago, we may have missed something
constexpr Milliseconds join_pause{500};
constexpr int orphaned_ticks = 3;              // an owner that only lost its connection takes its move up again meanwhile
constexpr std::size_t outgoing_max = 10'000;   // messages; the catalog is away by then, and what they say is out of date

// Halves of advisory locks: "pgin" in ASCII for members; "pgpr" for owners of moves (catalog/store_moves.cpp).
constexpr std::string_view member_lock_class = "1885825390";
constexpr std::string_view owner_lock_class = "1885827186";

const std::string locks_of_this_database =
    "l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND "
    "l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

}  // namespace

class Instances::Impl {
  public:
    explicit Impl(Ports ports)
        : ports_(std::move(ports)),
          member_(ports_.member),
          holds_({ports_.config, ports_.gate, ports_.publisher, ports_.read_catalog,
                  [this](const InstanceMessage& message) { send({message, 0}); }, ports_.registry}),
          members_gauge_(ports_.registry.gauge("pgporter_instances", "Live instances of this catalog, as this one sees them; 0: it is cut off")),
          silent_(ports_.registry.counter("pgporter_instances_silent_total", "Instances that this one gave up because the catalog heard nothing of them.")),
          wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        PP_ASSERT(wake_fd_ >= 0);
    }
    ~Impl() {
        stop();
        ::close(wake_fd_);
    }

    void start(std::function<void()> take_over) {
        take_over_ = std::move(take_over);
        thread_ = std::thread([this] { run(); });
    }
    void stop();

    Result<HoldId> hold(std::string_view tenant, Milliseconds hold_max);
    DrainStatus wait_drained(HoldId hold, Milliseconds wait);
    bool release(HoldId hold);
    std::uint32_t warm(std::string_view tenant, const Placement& target, Milliseconds wait);
    InstanceHolds& holds() { return holds_; }
    [[nodiscard]] bool hears_all() const {
        return Clock::now().time_since_epoch() - Clock::duration(heard_at_.load(std::memory_order_relaxed)) < heard_within;
    }

  private:
    enum class Answer { none, held, drained };
    struct Peer {
        Answer answer = Answer::none;
        std::uint32_t transactions = 0;
        std::uint32_t pinned = 0;
    };
    struct Announced {  // a hold of ours
        std::string tenant;
        bool is_told = false;
        bool is_lost = false;  // the connection broke: who heard it, and what they answered, is unknown
        std::map<std::uint32_t, Peer> peers;
    };
    struct Outgoing {
        InstanceMessage message;
        std::uint64_t announces = 0;  // a hold of ours: the members of this moment must acknowledge it
    };

    void run();
    Result<void> join();
    void leave(const Error& why);
    Result<void> work();
    Result<void> send_all();
    Result<void> announce(const Outgoing& outgoing);
    Result<void> end_silent();
    Result<void> tick();
    void look_for_orphans(const PgResult& moves);
    void handle(const std::string& payload);
    void on_answer(const InstanceMessage& message);
    void send(Outgoing outgoing);
    void wake() const;

    const Ports ports_;
    const std::uint32_t member_;
    InstanceHolds holds_;
    metrics::Gauge& members_gauge_;
    metrics::Counter& silent_;
    const int wake_fd_;
    std::function<void()> take_over_;
    std::atomic<bool> stopping_{false};
    std::atomic<bool> is_member_{false};
    std::atomic<Clock::rep> heard_at_{0};

    std::mutex mutex_;
    std::condition_variable answered_;
    std::deque<Outgoing> outgoing_;
    std::map<std::uint64_t, Announced> announced_;                   // by the local hold's number
    std::thread thread_;
    std::thread taking_over_;
    std::atomic<bool> is_taking_over_{false};

    // The thread's own.
    PgConnection connection_;
    Clock::time_point tick_at_{};
    std::map<std::uint64_t, int> orphans_;  // move -> ticks without an owner
};

void Instances::Impl::stop() {
    stopping_ = true;
    wake();
    if (thread_.joinable()) thread_.join();
    holds_.stop();
    if (taking_over_.joinable()) taking_over_.join();
}

void Instances::Impl::wake() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_fd_, &one, sizeof one);
}

void Instances::Impl::send(Outgoing outgoing) {
    {
        const std::lock_guard lock(mutex_);
        if (outgoing_.size() < outgoing_max) outgoing_.push_back(std::move(outgoing));
    }
    wake();
}

Result<HoldId> Instances::Impl::hold(std::string_view tenant, Milliseconds hold_max) {
    if (!is_member_) return fail(ErrorKind::unavailable, "this instance is cut off from the catalog and can't tell the others");
    holds_.make_way(std::string(tenant));
    auto local = ports_.gate.hold(tenant, hold_max);
    if (!local) return local;
    Outgoing outgoing;
    outgoing.announces = local->value;
    auto& message = outgoing.message;
    message.kind = Kind::hold;
    message.sender = member_;
    message.hold = local->value;
    message.ms = static_cast<std::uint64_t>(hold_max.count());
    message.tenant = std::string(tenant);
    {
        const std::lock_guard lock(mutex_);
        announced_[local->value].tenant = message.tenant;
    }
    send(std::move(outgoing));
    return local;
}

DrainStatus Instances::Impl::wait_drained(HoldId hold, Milliseconds wait) {
    const auto deadline = Clock::now() + wait;
    DrainStatus status = ports_.gate.wait_drained(hold, wait);
    std::unique_lock lock(mutex_);
    const auto found = announced_.find(hold.value);
    if (found == announced_.end()) return status;
    const Announced& announced = found->second;
    const auto is_drained = [&] {
        return announced.is_told && std::all_of(announced.peers.begin(), announced.peers.end(),
                                                [](const auto& peer) { return peer.second.answer == Answer::drained; });
    };
    if (status.drained) answered_.wait_until(lock, deadline, [&] { return announced.is_lost || is_drained(); });
    status.drained = status.drained && !announced.is_lost && is_drained();
    for (const auto& [number, peer] : announced.peers) {
        if (peer.answer == Answer::none) ++status.silent;
        if (peer.answer != Answer::held) continue;
        status.transactions += peer.transactions;
        status.pinned += peer.pinned;
    }
    if (!announced.is_told || announced.is_lost) status.silent = std::max<std::uint32_t>(status.silent, 1);
    return status;
}

bool Instances::Impl::release(HoldId hold) {
    Outgoing outgoing;
    auto& message = outgoing.message;
    {
        const std::lock_guard lock(mutex_);
        const auto found = announced_.find(hold.value);
        if (found == announced_.end()) return ports_.gate.release(hold);
        message.tenant = found->second.tenant;
        announced_.erase(found);
    }
    message.kind = Kind::release;
    message.sender = member_;
    message.hold = hold.value;
    const SnapshotPtr snapshot = ports_.publisher.current();
    if (const TenantPtr tenant = snapshot ? snapshot->find_tenant(message.tenant) : nullptr) {
        message.epoch = tenant->epoch;
        message.version = snapshot->version();
        message.place = tenant->placement;
    }
    send(outgoing);  // first: the others' way is longer
    const bool in_time = ports_.gate.release(hold);
    holds_.release(message);  // one that a fence placed here when this hold had expired
    return in_time;
}

std::uint32_t Instances::Impl::warm(std::string_view tenant, const Placement& target, Milliseconds wait) {
    Outgoing outgoing;
    outgoing.message.kind = Kind::warm;
    outgoing.message.sender = member_;
    outgoing.message.tenant = std::string(tenant);
    outgoing.message.place = target;
    send(std::move(outgoing));
    return ports_.gate.warm(tenant, target, wait);
}

void Instances::Impl::run() {
    while (!stopping_) {
        auto done = connection_.is_open() ? work() : join();
        if (done) continue;
        leave(done.error());
        (void)connection_.wait_readable(join_pause, wake_fd_);
        std::uint64_t count = 0;
        [[maybe_unused]] const auto got = ::read(wake_fd_, &count, sizeof count);
    }
    connection_.close();
}

Result<void> Instances::Impl::join() {
    auto connection = connect_catalog(ports_.config.catalog, "instance " + std::to_string(member_), answer_max);
    if (!connection) return connection.error();
    connection_ = *std::move(connection);
    // Messages are worth nothing after a crash; and a member that vanished without a word must not count as one for long.
    PP_TRY(connection_.exec("SET synchronous_commit = off; SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 2; "
                            "SET tcp_keepalives_count = 2; SET tcp_user_timeout = 8000; LISTEN pgporter_instances"));
    const auto locked = connection_.exec_params("SELECT pg_try_advisory_lock($1::integer, $2::integer)",
                                                {std::string(member_lock_class), std::to_string(member_)});
    if (!locked) return locked.error();
    // Our own last connection, which the server hasn't given up yet; or, once in two thousand million, somebody else.
    if (!locked->boolean(0, 0)) return fail(ErrorKind::conflict, "the catalog still has an earlier connection of this instance");
    // What was said while nobody listened: a flip, or a pause that is going on.
    const auto read = ports_.read_catalog();
    if (!read) return read.error();
    PP_TRY(tick());
    is_member_ = true;
    log::info("instance_joined", {{"instance", std::to_string(member_)}});
    return {};
}

void Instances::Impl::leave(const Error& why) {
    if (is_member_.exchange(false)) log::warning("instance_cut_off", {{"instance", std::to_string(member_)}, {"reason", why.message}});
    connection_.close();
    heard_at_ = 0;
    members_gauge_.set(0);
    orphans_.clear();
    const std::lock_guard lock(mutex_);
    for (auto& [number, announced] : announced_) announced.is_lost = true;
    outgoing_.clear();  // releases too: the others ask the catalog when none comes
    answered_.notify_all();
}

// Everything that there is to do now; waits for it first.
Result<void> Instances::Impl::work() {
    auto notes = connection_.notifications();
    if (notes && notes->empty()) {
        bool idle = false;
        {
            const std::lock_guard lock(mutex_);
            idle = outgoing_.empty();
        }
        const auto wait = std::chrono::ceil<Milliseconds>(tick_at_ - Clock::now());
        if (idle) (void)connection_.wait_readable(wait, wake_fd_);
        std::uint64_t count = 0;
        [[maybe_unused]] const auto got = ::read(wake_fd_, &count, sizeof count);
        notes = connection_.notifications();
    }
    if (!notes) return notes.error();
    for (const auto& note : *notes) handle(note.payload);
    PP_TRY(send_all());
    if (Clock::now() >= tick_at_) PP_TRY(tick());
    return {};
}

Result<void> Instances::Impl::send_all() {
    for (;;) {
        Outgoing next;
        {
            const std::lock_guard lock(mutex_);
            if (outgoing_.empty()) return {};
            next = std::move(outgoing_.front());
            outgoing_.pop_front();
        }
        next.message.sender = member_;
        PP_TRY(announce(next));
    }
}

// One round trip: the message, and, for a hold, who must answer it. A member listens before it has its lock, so that whoever is on the list
// has heard; who joins after this looks for pauses itself.
Result<void> Instances::Impl::announce(const Outgoing& outgoing) {
    const std::string told = "SELECT pg_notify('pgporter_instances', $1)";
    if (outgoing.announces == 0) {
        PP_TRY(connection_.exec_params(told, {to_line(outgoing.message)}));
        return {};
    }
    auto members = connection_.exec_params("WITH told AS (" + told +
                                               ") SELECT l.objid::bigint FROM told LEFT JOIN pg_locks AS l ON " + locks_of_this_database +
                                               " AND l.classid = " + std::string(member_lock_class) + " AND l.pid <> pg_backend_pid()",
                                           {to_line(outgoing.message)});
    if (!members) return members.error();
    const std::lock_guard lock(mutex_);
    const auto found = announced_.find(outgoing.announces);
    if (found == announced_.end()) return {};
    found->second.is_told = true;
    for (int row = 0; row < members->rows(); ++row) {
        if (members->is_null(row, 0)) continue;  // there is nobody else
        found->second.peers.try_emplace(static_cast<std::uint32_t>(members->integer(row, 0)));
    }
    answered_.notify_all();
    return {};
}

// Who hasn't said anything to the catalog for long is stopped, or cut off without knowing it. It doesn't count any more, and what it owns may be
// taken over; it joins again when it wakes up, and reads the catalog before it counts. The clock is the catalog's own.
Result<void> Instances::Impl::end_silent() {
    auto silent = connection_.exec_params(
        "SELECT l.objid::bigint, pg_terminate_backend(l.pid), (SELECT count(pg_terminate_backend(o.pid)) FROM pg_stat_activity AS o "
        "WHERE o.application_name LIKE 'pgporter owner of move % in instance ' || l.objid::bigint) FROM pg_locks AS l "
        "JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE " + locks_of_this_database + " AND l.classid = " + std::string(member_lock_class) +
            " AND a.state = 'idle' AND clock_timestamp() - a.state_change > $1::bigint * interval '1 millisecond'",
        {std::to_string(ports_.config.mover.instance_silent_ms_max.count())});
    if (!silent) return silent.error();
    for (int row = 0; row < silent->rows(); ++row) {
        log::warning("instance_silent", {{"instance", silent->string(row, 0)}});
        silent_.inc();
    }
    return {};
}

Result<void> Instances::Impl::tick() {
    tick_at_ = Clock::now() + tick_every;
    const auto asked_at = Clock::now();
    // A move that is opened and has no way back waits for an operator, without an owner.
    auto moves = connection_.exec("SELECT m.id, m.tenant, m.state IN ('hold', 'fenced', 'drained', 'rolling_back'), "
                                  "(m.state <> 'opened' OR m.rollback_refused = '') AND NOT EXISTS (SELECT FROM "
                                  "pg_locks AS l WHERE " + locks_of_this_database + " AND l.classid = " + std::string(owner_lock_class) +
                                  " AND l.objid::bigint = m.id), (SELECT count(*) FROM pg_locks AS l WHERE " + locks_of_this_database +
                                  " AND l.classid = " + std::string(member_lock_class) +
                                  ") FROM (SELECT 1) AS one LEFT JOIN pgporter.moves AS m ON m.state NOT IN ('completed', 'aborted', 'rolled_back')");
    if (!moves) return moves.error();
    heard_at_.store(asked_at.time_since_epoch().count(), std::memory_order_relaxed);
    members_gauge_.set(moves->integer(0, 4));
    std::set<std::string> in_pause;
    for (int row = 0; row < moves->rows(); ++row) {
        if (moves->boolean(row, 2)) in_pause.insert(moves->string(row, 1));
    }
    holds_.keep_only(in_pause);
    if (!is_member_) {
        for (const auto& tenant : in_pause) holds_.wait_for_move(tenant);
    }
    look_for_orphans(*moves);
    return end_silent();
}

void Instances::Impl::look_for_orphans(const PgResult& moves) {
    std::map<std::uint64_t, int> orphans;
    bool take = false;
    for (int row = 0; row < moves.rows(); ++row) {
        if (moves.is_null(row, 0) || !moves.boolean(row, 3)) continue;
        const auto move = moves.unsigned_integer(row, 0);
        const auto before = orphans_.find(move);
        const int ticks = before == orphans_.end() ? 1 : before->second + 1;
        take = take || ticks >= orphaned_ticks;
        orphans[move] = ticks;
    }
    orphans_ = std::move(orphans);
    if (!take || is_taking_over_.exchange(true)) return;
    orphans_.clear();
    if (taking_over_.joinable()) taking_over_.join();
    taking_over_ = std::thread([this] {
        take_over_();
        is_taking_over_ = false;
    });
}

void Instances::Impl::handle(const std::string& payload) {
    const auto message = message_from(payload);
    if (!message || message->sender == member_) return;
    switch (message->kind) {
        case Kind::hold: holds_.hold(*message); break;
        case Kind::release: holds_.release(*message); break;
        case Kind::warm: holds_.warm(*message); break;
        case Kind::held:
        case Kind::drained:
            if (message->to == member_) on_answer(*message);
            break;
    }
}

void Instances::Impl::on_answer(const InstanceMessage& message) {
    const std::lock_guard lock(mutex_);
    const auto announced = announced_.find(message.hold);
    if (announced == announced_.end()) return;
    const auto peer = announced->second.peers.find(message.sender);
    if (peer == announced->second.peers.end()) return;
    peer->second.answer = message.kind == Kind::drained ? Answer::drained : Answer::held;
    peer->second.transactions = message.transactions;
    peer->second.pinned = message.pinned;
    answered_.notify_all();
}

Instances::Instances(Ports ports) : impl_(std::make_unique<Impl>(std::move(ports))) {}
Instances::~Instances() = default;

void Instances::start(std::function<void()> take_over) {
    impl_->start(std::move(take_over));
}
void Instances::stop() {
    impl_->stop();
}
Result<HoldId> Instances::hold(std::string_view tenant, std::chrono::milliseconds hold_max) {
    return impl_->hold(tenant, hold_max);
}
DrainStatus Instances::wait_drained(HoldId hold, std::chrono::milliseconds wait) {
    return impl_->wait_drained(hold, wait);
}
bool Instances::release(HoldId hold) {
    return impl_->release(hold);
}
std::uint32_t Instances::warm(std::string_view tenant, const Placement& target, std::chrono::milliseconds wait) {
    return impl_->warm(tenant, target, wait);
}
void Instances::on_fence_met(const std::string& tenant) {
    impl_->holds().on_fence_met(tenant);
}
bool Instances::hears_all() const {
    return impl_->hears_all();
}

}  // namespace pgporter
