#include "catalog/instance_holds.hpp"

#include <algorithm>

#include "base/log.hpp"

namespace pgporter {
namespace {

using Clock = std::chrono::steady_clock;
using Kind = InstanceMessage::Kind;

// Above the time that the sender asked for: to ask the catalog before the gate would open by itself.
constexpr Milliseconds truth_margin{3'000};
constexpr Milliseconds drained_at_once{2};   // then one message says it all
constexpr Milliseconds drain_slice{50};      // how soon the end of a hold is noticed by who waits for its drain
constexpr Milliseconds warm_max{2'000};

// What keeps a tenant apart (a setting, a role) is said by its database's entry: without the new one's it would be served without.
bool is_described(const Snapshot& snapshot, const Tenant& tenant, const Placement& target) {
    const auto* here = snapshot.find_database(tenant.placement.cluster, tenant.placement.database);
    const bool says_something = here != nullptr && (here->isolation != Isolation::app || !here->tenant_setting.empty());
    return !says_something || snapshot.find_database(target.cluster, target.database) != nullptr;
}

}  // namespace

InstanceHolds::InstanceHolds(Ports ports)
    : ports_(std::move(ports)),
      placed_(ports_.registry.counter("pgporter_instance_holds_total", "Holds placed here for another instance's move.")),
      timed_out_(ports_.registry.counter("pgporter_instance_holds_expired_total",
                                         "Holds that nobody released: ended here after asking the catalog.")),
      fences_met_(ports_.registry.counter("pgporter_fences_met_total",
                                          "Writes that a fence refused, because this instance didn't know yet that their tenant moves.")) {}

Epoch InstanceHolds::epoch_of(const std::string& tenant) const {
    const SnapshotPtr snapshot = ports_.publisher.current();
    const TenantPtr known = snapshot ? snapshot->find_tenant(tenant) : nullptr;
    return known ? known->epoch : Epoch{};
}

void InstanceHolds::place(InstanceMessage asked, bool by_fence) {
    if (stopping_) return;
    reap();
    auto held = std::make_shared<Held>();
    held->epoch = epoch_of(asked.tenant);
    held->by_fence = by_fence;
    auto local = ports_.gate.hold(asked.tenant, Milliseconds(asked.ms) + truth_margin);
    if (!local) return;  // held already, by a move of this instance
    held->local = *local;
    held->asked = std::move(asked);
    held_[held->asked.tenant] = held;
    held->thread = std::thread([this, held] { run(held); });
}

void InstanceHolds::hold(const InstanceMessage& asked) {
    const std::lock_guard lock(mutex_);
    // An older hold of this tenant is of an attempt that has ended, or of a fence that was met: the new one stands for both.
    if (const auto known = held_.find(asked.tenant); known != held_.end()) end(HeldPtr(known->second));
    placed_.inc();
    place(asked, false);
}

void InstanceHolds::on_fence_met(const std::string& tenant) {
    fences_met_.inc();
    wait_for_move(tenant);
}

void InstanceHolds::wait_for_move(const std::string& tenant) {
    const std::lock_guard lock(mutex_);
    if (held_.contains(tenant)) return;
    InstanceMessage asked;
    asked.tenant = tenant;
    asked.ms = static_cast<std::uint64_t>(ports_.config.mover.hold_ms_max.count());
    place(std::move(asked), true);
}

void InstanceHolds::make_way(const std::string& tenant) {
    const std::lock_guard lock(mutex_);
    if (const auto known = held_.find(tenant); known != held_.end()) end(HeldPtr(known->second));
}

void InstanceHolds::release(const InstanceMessage& message) {
    const SnapshotPtr snapshot = ports_.publisher.current();
    const TenantPtr known = snapshot ? snapshot->find_tenant(message.tenant) : nullptr;
    if (known && known->epoch < message.epoch) {
        if (!is_described(*snapshot, *known, message.place)) return read_and_end(message.tenant);
        Tenant moved = *known;
        moved.placement = message.place;
        moved.epoch = message.epoch;
        ports_.publisher.publish_tenant(moved, std::max(message.version, snapshot->version()));
    }
    const std::lock_guard lock(mutex_);
    const auto held = held_.find(message.tenant);
    if (held == held_.end()) return;
    // A late word about an earlier attempt ends nothing, unless it tells a new route: then there is no later attempt.
    const auto& asked = held->second->asked;
    const bool is_meant = held->second->by_fence || (asked.sender == message.sender && asked.hold == message.hold);
    if (is_meant || held->second->epoch < message.epoch) end(HeldPtr(held->second));
}

// Who tells of a flip may be faster than the catalog's own changes.
void InstanceHolds::read_and_end(const std::string& tenant) {
    const std::lock_guard lock(mutex_);
    const auto known = held_.find(tenant);
    if (stopping_ || known == held_.end()) return;
    end_with_truth(known->second);
}

// On a thread of its own: reading the catalog takes a round trip or two.
void InstanceHolds::end_with_truth(const HeldPtr& held) {
    run_aside([this, held] {
        learn_truth(held);
        const std::lock_guard inner(mutex_);
        end(held);
    });
}

void InstanceHolds::warm(const InstanceMessage& message) {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    run_aside([this, message] { (void)ports_.gate.warm(message.tenant, message.place, warm_max); });
}

void InstanceHolds::keep_only(const std::set<std::string>& in_pause) {
    const std::lock_guard lock(mutex_);
    std::vector<HeldPtr> ending;
    for (const auto& [tenant, held] : held_) {
        if (!in_pause.contains(tenant)) ending.push_back(held);
    }
    for (const auto& held : ending) end_with_truth(held);
}

void InstanceHolds::run_aside(std::function<void()> work) {
    reap();
    auto aside = std::make_shared<Held>();
    aside->thread = std::thread([this, aside, work = std::move(work)] {
        work();
        const std::lock_guard lock(mutex_);
        aside->ended = true;
    });
    old_.push_back(aside);
}

// With mutex_ held: the gate opens.
void InstanceHolds::end(const HeldPtr& held) {
    if (held->over) return;
    held->over = true;
    (void)ports_.gate.release(held->local);
    const auto known = held_.find(held->asked.tenant);
    if (known != held_.end() && known->second == held) held_.erase(known);
    old_.push_back(held);
    changed_.notify_all();
}

void InstanceHolds::reap() {
    std::erase_if(old_, [](const HeldPtr& old) {
        if (!old->ended) return false;
        old->thread.join();
        return true;
    });
}

bool InstanceHolds::is_over(const HeldPtr& held) {
    const std::lock_guard lock(mutex_);
    return held->over || stopping_;
}

void InstanceHolds::acknowledge(const HeldPtr& held, Clock::time_point until) {
    auto answer = held->asked;
    answer.to = held->asked.sender;
    const auto tell = [&](const DrainStatus& status) {
        answer.kind = status.drained ? Kind::drained : Kind::held;
        answer.transactions = status.transactions;
        answer.pinned = status.pinned;
        ports_.tell(answer);
    };
    auto status = ports_.gate.wait_drained(held->local, drained_at_once);
    tell(status);
    while (!status.drained && !status.expired && !is_over(held) && Clock::now() < until) {
        status = ports_.gate.wait_drained(held->local, drain_slice);
        if (status.drained) tell(status);
    }
}

void InstanceHolds::learn_truth(const HeldPtr& held) {
    const auto read = ports_.read_catalog();
    if (!read) {
        log::warning("instance_hold_without_catalog", {{"tenant", held->asked.tenant}, {"reason", read.error().message}});
    }
}

void InstanceHolds::run(const HeldPtr& held) {
    const auto until = Clock::now() + Milliseconds(held->asked.ms);
    bool known = false;
    if (held->by_fence) {
        learn_truth(held);
        known = held->epoch < epoch_of(held->asked.tenant);
    } else {
        acknowledge(held, until);
    }
    {
        std::unique_lock lock(mutex_);
        if (!known) changed_.wait_until(lock, until, [&] { return held->over || stopping_; });
        if (held->over || stopping_) {
            held->ended = true;
            return;
        }
    }
    if (!known) {
        timed_out_.inc();
        log::warning("instance_hold_expired", {{"tenant", held->asked.tenant}});
        learn_truth(held);
    }
    const std::lock_guard lock(mutex_);
    end(held);
    held->ended = true;
}

void InstanceHolds::stop() {
    std::vector<HeldPtr> all;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        changed_.notify_all();
        while (!held_.empty()) end(HeldPtr(held_.begin()->second));
        all.swap(old_);
    }
    for (const auto& held : all) held->thread.join();
}

}  // namespace pgporter
