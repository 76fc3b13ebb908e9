#include "proxy/session/tenant_desk.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace pgporter {

std::shared_ptr<TenantUsage> TenantLedger::usage(const std::string& tenant) {
    const std::lock_guard lock(mutex_);
    auto& slot = usage_[tenant];
    if (!slot) slot = std::make_shared<TenantUsage>();
    return slot;
}

TenantCounters TenantLedger::counters(const std::string& tenant) {
    std::string label = tenant;
    {
        const std::lock_guard lock(mutex_);
        if (!labelled_.contains(tenant)) {
            if (labelled_.size() < labels_max_) {
                labelled_[tenant] = true;
            } else {
                label = "_other";
            }
        }
    }
    const metrics::Labels labels{{"tenant", label}};
    return {registry_.counter("pgporter_tenant_transactions_total", "Transactions by tenant.", labels),
            registry_.counter("pgporter_tenant_received_bytes_total", "Bytes from the tenant's clients.", labels),
            registry_.counter("pgporter_tenant_sent_bytes_total", "Bytes to the tenant's clients.", labels),
            registry_.gauge("pgporter_tenant_sessions", "Client connections by tenant.", labels)};
}

HoldState::HoldState(HoldId hold_id, std::string held_tenant, std::size_t threads, std::chrono::milliseconds max)
    : id(hold_id), tenant(std::move(held_tenant)), hold_max(max), threads_(threads) {}

void HoldState::update(std::size_t thread, std::uint32_t active, std::uint32_t pinned, std::uint32_t waiting) {
    {
        const std::lock_guard lock(mutex_);
        threads_[thread] = {true, active, pinned, waiting};
    }
    changed_.notify_all();
}

void HoldState::expire() {
    {
        const std::lock_guard lock(mutex_);
        expired_ = true;
    }
    changed_.notify_all();
}

bool HoldState::is_expired() const {
    const std::lock_guard lock(mutex_);
    return expired_;
}

DrainStatus HoldState::status_locked() const {
    DrainStatus status;
    status.expired = expired_;
    status.drained = !expired_;
    for (const Counts& counts : threads_) {
        status.transactions += counts.active;
        status.pinned += counts.pinned;
        status.waiting += counts.waiting;
        if (!counts.acknowledged || counts.active != 0) status.drained = false;
    }
    return status;
}

DrainStatus HoldState::wait(std::chrono::milliseconds at_most) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, at_most, [this] { return expired_ || status_locked().drained; });
    return status_locked();
}

TenantDesk::TenantDesk(std::size_t thread_index, DeadlineWheel& wheel, std::string name, TenantLedger& ledger)
    : thread_index_(thread_index),
      name_(std::move(name)),
      usage_(ledger.usage(name_)),
      counters_(ledger.counters(name_)),
      hold_deadline_(wheel) {}

void TenantDesk::tell() {
    if (hold_) hold_->update(thread_index_, active_, pinned_, static_cast<std::uint32_t>(gate_waiters_.size()));
}

void TenantDesk::hold(std::shared_ptr<HoldState> state) {
    PP_ASSERT(!hold_);
    hold_ = std::move(state);
    hold_deadline_.arm(hold_->hold_max, [this] {
        hold_->expire();
        open();
    });
    tell();
}

void TenantDesk::open() {
    if (!hold_) return;
    hold_.reset();
    hold_deadline_.disarm();
    const std::deque<PoolWaiter*> released = std::exchange(gate_waiters_, {});
    usage_->gate_waiters.fetch_sub(static_cast<std::uint32_t>(released.size()), std::memory_order_relaxed);
    for (PoolWaiter* waiter : released) {
        waiter->end = PoolWaiter::End::served;
        waiter->done.notify();
    }
}

const std::shared_ptr<PlaceShare>& TenantDesk::share(const std::shared_ptr<ClusterPlaces>& cluster) {
    if (cluster_ != cluster) {
        cluster_ = cluster;
        share_ = cluster->share(name_);
    }
    return share_;
}

void TenantDesk::begin_lease() {
    PP_ASSERT(!hold_);
    ++active_;
}

void TenantDesk::end_lease() {
    PP_ASSERT(active_ > 0);
    --active_;
    tell();
}

void TenantDesk::pin() {
    ++pinned_;
    tell();
}

void TenantDesk::unpin() {
    PP_ASSERT(pinned_ > 0);
    --pinned_;
    tell();
}

void TenantDesk::join_gate(PoolWaiter& waiter) {
    gate_waiters_.push_back(&waiter);
    usage_->gate_waiters.fetch_add(1, std::memory_order_relaxed);
    tell();
}

void TenantDesk::leave(PoolWaiter& waiter) {
    if (std::erase(gate_waiters_, &waiter) != 0) usage_->gate_waiters.fetch_sub(1, std::memory_order_relaxed);
    tell();
}

}  // namespace pgporter
