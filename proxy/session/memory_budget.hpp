// MemoryBudget: how many bytes the messages and statements that sessions keep may take, all together and per tenant. Thread-safe; owned by
// DataPathShared. What every connection has anyway (a read's worth of input, a write's worth of output) isn't counted, unless it stays.
//
// A tenant may have as much as is still free: one alone gets half, and nobody can take the last byte from all others.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/memory_reserve.hpp"
#include "base/metrics.hpp"

namespace pgporter {

class MemoryBudget {
  public:
    MemoryBudget(std::uint64_t bytes_max, metrics::Registry& registry)
        : bytes_max_(static_cast<std::int64_t>(bytes_max)),
          used_(registry.gauge("pgporter_buffered_bytes", "Bytes of messages and statements that sessions keep, at most limits.buffered_mib_max.")),
          refusals_(registry.counter("pgporter_memory_refusals_total", "Requests refused, and sessions ended, for lack of memory (53200).")) {
        registry.gauge("pgporter_buffered_bytes_max", "limits.buffered_mib_max in bytes, or what it stands for.").set(bytes_max_);
    }
    using TenantBytes = std::atomic<std::int64_t>;

    [[nodiscard]] bool has_room(const TenantBytes& tenant, std::size_t bytes) const {
        if (memory_reserve::is_short()) return false;
        const std::int64_t wanted = static_cast<std::int64_t>(bytes);
        const std::int64_t left = bytes_max_ - used_.value() - wanted;
        return left >= 0 && tenant.load(std::memory_order_relaxed) + wanted <= left;
    }
    void add(TenantBytes& tenant, std::int64_t bytes) {
        used_.add(bytes);
        tenant.fetch_add(bytes, std::memory_order_relaxed);
    }
    void count_refusal() { refusals_.inc(); }

  private:
    std::int64_t bytes_max_;
    metrics::Gauge& used_;
    metrics::Counter& refusals_;
};

// On whose account memory is taken. Both outlive all sessions and statements.
struct MemoryAccount {
    MemoryBudget* budget = nullptr;  // null: nobody counts
    MemoryBudget::TenantBytes* tenant = nullptr;
    [[nodiscard]] bool has_room(std::size_t bytes) const { return budget == nullptr || budget->has_room(*tenant, bytes); }
};

// What one holder has of it; given back when it ends. Who can be refused asks has_room() first.
class MemoryShare {
  public:
    MemoryShare() = default;
    MemoryShare(MemoryAccount account, std::size_t bytes) { resize(account, bytes); }
    MemoryShare(MemoryShare&& other) noexcept : account_(other.account_), bytes_(std::exchange(other.bytes_, 0)) {}
    MemoryShare& operator=(MemoryShare&& other) noexcept {
        if (this == &other) return *this;
        release();
        account_ = other.account_;
        bytes_ = std::exchange(other.bytes_, 0);
        return *this;
    }
    ~MemoryShare() { release(); }
    void resize(MemoryAccount account, std::size_t bytes) {
        release();
        account_ = account;
        bytes_ = account.budget == nullptr ? 0 : static_cast<std::int64_t>(bytes);
        if (bytes_ != 0) account_.budget->add(*account_.tenant, bytes_);
    }
    void release() {
        if (bytes_ != 0) account_.budget->add(*account_.tenant, -std::exchange(bytes_, 0));
    }

    [[nodiscard]] std::int64_t bytes() const { return bytes_; }

  private:
    MemoryAccount account_;
    std::int64_t bytes_ = 0;
};

}  // namespace pgporter
