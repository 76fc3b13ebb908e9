#include "proxy/pool/cluster_places.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace pgporter {
namespace {

std::uint64_t now_us() {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

// One of those that are kept free for a tenant or a database, if not all of them are in use.
bool claim(std::atomic<std::uint32_t>& in_use, std::uint32_t promised) {
    if (promised == 0) return false;
    if (in_use.fetch_add(1) < promised) return true;
    in_use.fetch_sub(1);
    return false;
}

}  // namespace

void Place::give_back() {
    if (const auto cluster = std::move(cluster_)) {
        cluster_.reset();
        cluster->give_back(*this);
        share_.reset();
        database_.reset();
    }
}

// In this period or in the last. The asking one is left out: it is at work, whether or not it was seen (it may only hold what it has).
std::uint32_t ClusterPlaces::others_at_work(const PlaceShare& share) const {
    const auto period = period_.load(std::memory_order_relaxed);
    const auto seen_in = share.seen_in.load(std::memory_order_relaxed);
    const bool before = seen_in == period - 1 || share.seen_before.load(std::memory_order_relaxed) == period - 1;
    const auto without = [](std::uint32_t all, bool counted) { return all > 0 && counted ? all - 1 : all; };
    return std::max(without(seen_now_.load(std::memory_order_relaxed), seen_in == period), without(seen_before_.load(std::memory_order_relaxed), before));
}

void ClusterPlaces::note_at_work(PlaceShare& share) {
    const auto period = period_.load(std::memory_order_relaxed);
    if (share.seen_in.load(std::memory_order_relaxed) == period) return;
    const auto before = share.seen_in.exchange(period, std::memory_order_relaxed);
    if (before == period) return;
    share.seen_before.store(before, std::memory_order_relaxed);
    seen_now_.fetch_add(1, std::memory_order_relaxed);
}

// Counts first and looks then: what two threads do at once may fail for both, but never exceeds a cap.
ClusterPlaces::Taken ClusterPlaces::take(PlaceShare& share, DatabasePlaces& database, const PlaceCaps& caps) {
    const std::uint32_t own = share.places.fetch_add(1) + 1;
    if (caps.tenant_max != 0 && own > caps.tenant_max) {
        share.places.fetch_sub(1);
        return Taken::tenant_is_full;
    }
    const std::uint32_t all = places_.fetch_add(1) + 1;
    const std::uint32_t in_database = database.places.fetch_add(1) + 1;
    Taken taken = Taken::ordinary;
    if (claim(share.promised, caps.promised)) {
        taken = Taken::of_tenant;
    } else if (claim(database.promised, caps.database_promised)) {
        taken = Taken::of_database;
    }
    std::uint32_t open = caps.cluster_max;
    if (taken == Taken::ordinary) {
        const std::uint32_t in_use = promised_.load();
        const std::uint32_t kept = caps.promised_sum > in_use ? caps.promised_sum - in_use : 0;
        const std::uint32_t fair_share = std::max(caps.cluster_max / (1 + others_at_work(share)), 1U);
        const std::uint32_t reserve = own > fair_share ? (caps.cluster_max * caps.reserve_percent + 99) / 100 : 0;
        open = caps.cluster_max > kept ? caps.cluster_max - kept : 0;
        // Somebody always gets on: a cluster of one place has no reserve.
        if (reserve != 0 && open > 1) open = std::max(open > reserve ? open - reserve : 0, 1U);
    }
    if (all <= open && (caps.database_max == 0 || in_database <= caps.database_max)) {
        if (taken != Taken::ordinary) promised_.fetch_add(1);
        return taken;
    }
    if (taken == Taken::of_tenant) share.promised.fetch_sub(1);
    if (taken == Taken::of_database) database.promised.fetch_sub(1);
    share.places.fetch_sub(1);
    database.places.fetch_sub(1);
    places_.fetch_sub(1);
    if (all > caps.cluster_max) return Taken::cluster_is_full;
    return all <= open ? Taken::database_is_full : Taken::not_open;
}

Place ClusterPlaces::place_of(const std::shared_ptr<PlaceShare>& share, const std::shared_ptr<DatabasePlaces>& database, Taken taken,
                              std::uint32_t thread) {
    Place place;
    place.cluster_ = shared_from_this();
    place.share_ = share;
    place.database_ = database;
    if (taken == Taken::of_tenant) place.promised_to_ = Place::Promised::to_tenant;
    if (taken == Taken::of_database) place.promised_to_ = Place::Promised::to_database;
    place.thread_ = thread;
    if (is_contended_.load(std::memory_order_relaxed)) place.since_us_ = now_us();
    return place;
}

Place ClusterPlaces::try_take(const std::shared_ptr<PlaceShare>& share, const std::shared_ptr<DatabasePlaces>& database, const PlaceCaps& caps,
                              std::uint32_t thread) {
    note_at_work(*share);
    // Whoever waits has been looked at when the last place came free, and mustn't have it: nobody is overtaken.
    const Taken taken = take(*share, *database, caps);
    if (!is_place(taken)) return {};
    return place_of(share, database, taken, thread);
}

Place ClusterPlaces::visit(const std::shared_ptr<PlaceShare>& share) {
    share->places.fetch_add(1);
    Place place;
    place.cluster_ = shared_from_this();
    place.share_ = share;
    return place;
}

void ClusterPlaces::wait(const std::shared_ptr<PlaceTicket>& ticket) {
    const std::lock_guard lock(mutex_);
    PlaceShare& share = *ticket->share;
    Queue& queue = queues_[&share];
    const bool is_first = queue.empty();
    queue.push_back(ticket);
    ticket->is_queued = true;
    newest_max_ = ticket->caps.cluster_max;
    share.waiting.fetch_add(1);
    if (share.aside != PlaceShare::Aside::for_own_cap) waiting_.fetch_add(1);
    if (is_first) {
        share.used_us = std::max(share.used_us, served_us_);  // what it didn't use while it didn't ask isn't kept for it
        order_.emplace(share.used_us, &share);
    }
    serve(std::nullopt);  // what was given back before we were seen waiting
    if (ticket->is_queued && share.aside != PlaceShare::Aside::for_own_cap) is_contended_.store(true, std::memory_order_relaxed);
}

void ClusterPlaces::remove(const std::shared_ptr<PlaceTicket>& ticket) {
    PlaceShare& share = *ticket->share;
    const auto at = queues_.find(&share);
    PP_ASSERT(at != queues_.end());
    if (at->second.front() == ticket) {
        at->second.pop_front();
    } else {
        std::erase(at->second, ticket);
    }
    ticket->is_queued = false;
    share.waiting.fetch_sub(1);
    if (share.aside != PlaceShare::Aside::for_own_cap) waiting_.fetch_sub(1);
    if (!at->second.empty()) return;
    queues_.erase(at);
    [[maybe_unused]] const bool was_in_line = leave_order(share);
    share.aside = PlaceShare::Aside::no;
}

// Out of the line, or of those that stand aside for a database.
bool ClusterPlaces::leave_order(PlaceShare& share) {
    if (share.aside != PlaceShare::Aside::for_database) return order_.erase({share.used_us, &share}) != 0;
    DatabasePlaces& database = *std::exchange(share.aside_in, nullptr);
    database.aside.erase({share.used_us, &share});
    if (database.aside.empty()) full_databases_.erase(&database);
    return true;
}

void ClusterPlaces::leave(const std::shared_ptr<PlaceTicket>& ticket) {
    const std::lock_guard lock(mutex_);
    if (ticket->is_queued) remove(ticket);
}

// Its cap is all that it waits for: until it gives a place back nothing that happens is of interest to it.
void ClusterPlaces::step_aside(PlaceShare& share) {
    order_.erase({share.used_us, &share});
    share.aside = PlaceShare::Aside::for_own_cap;
    waiting_.fetch_sub(queues_.at(&share).size());
}

void ClusterPlaces::step_aside(PlaceShare& share, DatabasePlaces& database) {
    order_.erase({share.used_us, &share});
    share.aside = PlaceShare::Aside::for_database;
    share.aside_in = &database;
    database.aside.emplace(share.used_us, &share);
    full_databases_.insert(&database);
}

// As many as a database has room for again.
void ClusterPlaces::line_up_for_databases() {
    for (auto at = full_databases_.begin(); at != full_databases_.end();) {
        DatabasePlaces& database = **at++;  // the last one that lines up takes it out of the set
        std::uint32_t in_use = database.places.load();
        while (!database.aside.empty()) {
            PlaceShare& share = *database.aside.begin()->second;
            const std::uint32_t cap = queues_.at(&share).front()->caps.database_max;
            if (cap != 0 && in_use >= cap) break;
            ++in_use;
            [[maybe_unused]] const bool was_aside = leave_order(share);
            share.aside = PlaceShare::Aside::no;
            order_.emplace(share.used_us, &share);
        }
    }
}

void ClusterPlaces::line_up(PlaceShare& share) {
    if (share.aside != PlaceShare::Aside::for_own_cap) return;
    share.aside = PlaceShare::Aside::no;
    share.used_us = std::max(share.used_us, served_us_);
    order_.emplace(share.used_us, &share);
    waiting_.fetch_add(queues_.at(&share).size());
}

void ClusterPlaces::give_back(Place& place) {
    PlaceShare& share = *place.share_;
    if (place.promised_to_ != Place::Promised::to_nobody) {
        promised_.fetch_sub(1);
        (place.promised_to_ == Place::Promised::to_tenant ? share.promised : place.database_->promised).fetch_sub(1);
    }
    share.places.fetch_sub(1);
    if (place.database_) {
        place.database_->places.fetch_sub(1);
        places_.fetch_sub(1);
    }
    if (!is_contended_.load(std::memory_order_relaxed) && waiting_.load() == 0 && share.waiting.load() == 0) return;
    const std::uint64_t used = place.since_us_ == 0 ? 0 : now_us() - place.since_us_;
    const std::lock_guard lock(mutex_);
    DatabasePlaces* const aside_in = share.aside_in;
    const bool is_waiting = leave_order(share);
    share.used_us += used;
    if (is_waiting && aside_in != nullptr) {
        step_aside(share, *aside_in);
    } else if (is_waiting) {
        order_.emplace(share.used_us, &share);
    }
    line_up(share);
    serve(place.thread_);
}

// Who waits on this thread and may be served before the first in line; else null.
std::shared_ptr<PlaceTicket> ClusterPlaces::next_of(std::uint32_t thread, const PlaceTicket& first) const {
    constexpr std::uint32_t overtakings_max = 4;
    constexpr std::uint64_t as_little_us = 1'000;
    constexpr int looked_at_max = 8;
    if (first.thread == thread || first.overtaken >= overtakings_max) return nullptr;
    int looked_at = 0;
    for (const auto& [used_us, share] : order_) {
        if (used_us > first.share->used_us + as_little_us) return nullptr;
        for (const std::shared_ptr<PlaceTicket>& ticket : queues_.at(share)) {
            if (ticket->thread == thread) return ticket;
            if (++looked_at == looked_at_max) return nullptr;
        }
    }
    return nullptr;
}

// `thread`: where the server connection of the place that has come free is.
void ClusterPlaces::serve(std::optional<std::uint32_t> thread) {
    line_up_for_databases();
    for (auto at = order_.begin(); at != order_.end();) {
        PlaceShare* const share = at->second;
        const auto queue = queues_.find(share);
        PP_ASSERT(queue != queues_.end() && !queue->second.empty());
        const std::shared_ptr<PlaceTicket> first = queue->second.front();
        std::shared_ptr<PlaceTicket> ticket = first;
        Taken taken = Taken::not_open;
        if (thread) {
            if (auto nearer = next_of(*thread, *first)) {
                taken = take(*nearer->share, *nearer->database, nearer->caps);
                if (is_place(taken)) {
                    ++first->overtaken;
                    ticket = std::move(nearer);
                }
            }
        }
        if (!is_place(taken)) taken = take(*share, *ticket->database, ticket->caps);
        if (taken == Taken::cluster_is_full && ticket->caps.cluster_max >= newest_max_) return;  // for everybody
        if (!is_place(taken)) {
            ++at;
            if (taken == Taken::tenant_is_full) step_aside(*share);
            if (taken == Taken::database_is_full) step_aside(*share, *ticket->database);
            continue;
        }
        thread.reset();
        note_at_work(*ticket->share);
        served_us_ = std::max(served_us_, ticket->share->used_us);
        ticket->place = place_of(ticket->share, ticket->database, taken, ticket->thread);
        remove(ticket);
        ticket->wake();
        at = order_.begin();
    }
}

void ClusterPlaces::tick(std::chrono::steady_clock::time_point now) {
    constexpr std::int64_t period_ns = 1'000'000'000;
    const std::int64_t present = now.time_since_epoch().count();
    std::int64_t ticked = ticked_at_.load();
    if (present - ticked < period_ns || !ticked_at_.compare_exchange_strong(ticked, present)) return;
    period_.fetch_add(1);
    seen_before_.store(seen_now_.exchange(0));
    const std::lock_guard lock(mutex_);
    const bool waits = waiting_.load() != 0;
    if (!waits && !waited_before_) is_contended_.store(false, std::memory_order_relaxed);
    waited_before_ = waits;
    serve(std::nullopt);  // with fewer tenants at work there is more for each
}

std::shared_ptr<PlaceShare> ClusterPlaces::share(const std::string& tenant) {
    const std::lock_guard lock(mutex_);
    auto& slot = shares_[tenant];
    if (!slot) slot = std::make_shared<PlaceShare>();
    return slot;
}

std::shared_ptr<DatabasePlaces> ClusterPlaces::database(const std::string& name) {
    const std::lock_guard lock(mutex_);
    auto& slot = databases_[name];
    if (!slot) slot = std::make_shared<DatabasePlaces>();
    return slot;
}

std::shared_ptr<ClusterPlaces> PlaceBook::cluster(const std::string& name) {
    const std::lock_guard lock(mutex_);
    auto& slot = clusters_[name];
    if (!slot) slot = std::make_shared<ClusterPlaces>();
    return slot;
}

void PlaceBook::tick(std::chrono::steady_clock::time_point now) {
    std::vector<std::shared_ptr<ClusterPlaces>> all;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [name, cluster] : clusters_) all.push_back(cluster);
    }
    for (const auto& cluster : all) cluster->tick(now);
}

}  // namespace pgporter
