#include "proxy/pool/pool_peers.hpp"

#include <algorithm>

#include "proxy/pool/pool.hpp"

namespace pgporter {

void PoolPeers::set_wanted(std::size_t thread, std::size_t count) {
    Seat& seat = seats_[thread];
    if (count == 0 && !seat.is_wanting) return;
    seat.wanted.store(static_cast<std::uint32_t>(count));
    const bool is_wanting = count != 0;
    if (is_wanting == seat.is_wanting) return;
    seat.is_wanting = is_wanting;
    if (is_wanting) {
        wanting_.fetch_add(1);
    } else {
        wanting_.fetch_sub(1);
    }
}

bool PoolPeers::has_open() const {
    return std::any_of(seats_.begin(), seats_.end(), [](const Seat& seat) { return seat.open.load(std::memory_order_relaxed) != 0; });
}

std::optional<std::size_t> PoolPeers::richest_but(std::size_t thread) const {
    std::optional<std::size_t> richest;
    std::uint32_t most = 0;
    for (std::size_t i = 0; i < seats_.size(); ++i) {
        if (i == thread) continue;
        const std::uint32_t idle = seats_[i].idle.load();
        if (idle <= most) continue;
        most = idle;
        richest = i;
    }
    return richest;
}

std::optional<std::size_t> PoolPeers::take_order(std::size_t except) {
    const std::size_t first = next_.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < seats_.size(); ++i) {
        const std::size_t thread = (first + i) % seats_.size();
        if (thread == except) continue;
        std::uint32_t wanted = seats_[thread].wanted.load();
        while (wanted != 0 && !seats_[thread].wanted.compare_exchange_weak(wanted, wanted - 1)) {
        }
        if (wanted == 0) continue;
        next_.store(thread + 1, std::memory_order_relaxed);
        return thread;
    }
    return std::nullopt;
}

std::shared_ptr<const Settings> PoolPeers::fresh_parameters() const {
    const std::lock_guard lock(mutex_);
    return fresh_parameters_;
}

void PoolPeers::set_fresh_parameters(std::shared_ptr<const Settings> reported) {
    const std::lock_guard lock(mutex_);
    fresh_parameters_ = std::move(reported);
}

std::shared_ptr<PoolPeers> PoolBook::peers(const PoolKey& key) {
    const std::lock_guard lock(mutex_);
    std::weak_ptr<PoolPeers>& slot = peers_[key];
    if (auto known = slot.lock()) return known;
    auto made = std::make_shared<PoolPeers>(threads());
    slot = made;
    if (peers_.size() > sweep_at_) {
        std::erase_if(peers_, [](const auto& entry) { return entry.second.expired(); });
        sweep_at_ = std::max<std::size_t>(64, 2 * peers_.size());
    }
    return made;
}

void PoolBook::close_one_idle_of_others(std::size_t thread, const std::string& cluster, const std::string& database) const {
    close_one_idle((thread + 1) % threads(), threads() - 1, cluster, database);
}

void PoolBook::close_one_idle(std::size_t thread, std::size_t left, std::string cluster, std::string database) const {
    if (left == 0) return;
    set(thread).thread().post([this, thread, left, cluster = std::move(cluster), database = std::move(database)] {
        if (set(thread).close_one_idle_of(cluster, database, nullptr)) return;
        close_one_idle((thread + 1) % threads(), left - 1, cluster, database);
    });
}

}  // namespace pgporter
