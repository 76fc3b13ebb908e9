// Server connections that go from one thread's pool to another's of the same key.
#include "base/assert.hpp"
#include "proxy/pool/pool.hpp"

namespace pgporter {

std::size_t Pool::thread_index() const {
    return set_.thread().index();
}

std::size_t Pool::unserved() const {
    const std::size_t coming = claimed_ + opening_;
    return waiting_ > coming ? waiting_ - coming : 0;
}

// Whoever has the most idle ones is asked for one, and answers once: receive() or on_claim_refused().
bool Pool::claim() {
    const auto thread = peers_->richest_but(thread_index());
    if (!thread) return false;
    ++claimed_;
    set_.book().set(*thread).thread().post([peers = peers_, there = *thread, here = thread_index(), &book = set_.book()] {
        Pool* pool = peers->pool(there);
        if (pool != nullptr && pool->hand_over_one(here, true)) return;
        book.set(here).thread().post([peers, here] {
            if (Pool* asking = peers->pool(here)) asking->on_claim_refused();
        });
    });
    return true;
}

void Pool::claim_what_is_needed() {
    while (unserved() != 0 && claim()) {
    }
}

void Pool::on_claim_refused() {
    --claimed_;
    dispatch();
}

// The one that was used least recently.
bool Pool::hand_over_one(std::size_t to, bool is_claimed) {
    while (!idle_.empty()) {
        const ServerPtr server = std::move(idle_.front());
        idle_.erase(idle_.begin());
        note_idle();
        if (!server->is_alive() || server->looks_dead()) {
            server->close();
            continue;
        }
        const auto erased = std::erase(all_, server);
        PP_ASSERT(erased == 1);
        note_open();
        set_.metrics().handovers.inc();
        PoolSet& there = set_.book().set(to);
        server->move_to(there.thread(), [peers = peers_, to, &there, is_claimed](ServerPtr arrived) {
            if (Pool* pool = peers->pool(to)) return pool->receive(std::move(arrived), is_claimed);
            there.close_homeless(std::move(arrived));
        });
        return true;
    }
    return false;
}

void Pool::receive(ServerPtr server, bool is_claimed) {
    if (is_claimed) --claimed_;
    all_.push_back(server);
    note_open();
    server->run(this);
    if (!fresh_parameters_) fresh_parameters_ = peers_->fresh_parameters();
    put_idle(std::move(server));
    dispatch();
}

// With waiters of our own they take turns with the others'.
void Pool::serve_others() {
    while (!idle_.empty()) {
        const auto to = peers_->take_order(thread_index());
        if (!to || !hand_over_one(*to, false) || waiting_ != 0) return;
    }
}

// What others should know we want: only what can't be had otherwise.
void Pool::note_wanted() {
    const bool is_stuck = starving_ || is_blocked_ || own_pace_.is_down();
    peers_->set_wanted(thread_index(), is_stuck ? unserved() : 0);
}

void Pool::note_idle() {
    peers_->set_idle(thread_index(), idle_.size());
}

void Pool::note_open() {
    peers_->set_open(thread_index(), all_.size());
}

void Pool::put_idle(ServerPtr server) {
    idle_.push_back(std::move(server));
    note_idle();
}

// The pool that it was meant for is gone.
void PoolSet::close_homeless(ServerPtr server) {
    server->close();
    metrics_.server_connections.add(-1);
    budget_.give_back({server->address().cluster, server->options().database});
}

}  // namespace pgporter
