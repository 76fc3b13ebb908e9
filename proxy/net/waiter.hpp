// Waiter: a coroutine that waits for something to be ready, as what wakes it: called once, with false where there is nothing left to wait for.
// Holds Asio's completion handler in place, without memory of its own. Owned by what is waited for; on its thread only. Destroyed uncalled, it ends
// the coroutine. It must not be called from inside of what the coroutine, or anybody above it, still does.
#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/deferred.hpp>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "proxy/net/types.hpp"

namespace pgporter {

class Waiter {
  public:
    Waiter() = default;
    template <class Handler>
        requires(!std::is_same_v<std::decay_t<Handler>, Waiter>)
    explicit Waiter(Handler&& handler) : kind_(&kind_of<std::decay_t<Handler>>) {
        using Stored = std::decay_t<Handler>;
        static_assert(sizeof(Stored) <= bytes && alignof(Stored) <= alignof(void*) && std::is_nothrow_move_constructible_v<Stored>);
        new (&storage_) Stored(std::forward<Handler>(handler));
    }
    Waiter(Waiter&& other) noexcept : kind_(std::exchange(other.kind_, nullptr)) {
        if (kind_ != nullptr) kind_->move(&other.storage_, &storage_);
    }
    Waiter& operator=(Waiter&& other) noexcept {
        if (this == &other) return *this;
        drop();
        kind_ = std::exchange(other.kind_, nullptr);
        if (kind_ != nullptr) kind_->move(&other.storage_, &storage_);
        return *this;
    }
    ~Waiter() { drop(); }

    [[nodiscard]] explicit operator bool() const { return kind_ != nullptr; }
    void wake(bool is_ready) {
        const Kind* kind = std::exchange(kind_, nullptr);
        kind->call(&storage_, is_ready);
    }

  private:
    static constexpr std::size_t bytes = 2 * sizeof(void*);
    struct Kind {
        void (*move)(void* from, void* to);  // and destroys what was moved from
        void (*call)(void* handler, bool is_ready);
        void (*destroy)(void* handler);
    };
    template <class Stored>
    static constexpr Kind kind_of{[](void* from, void* to) {
                                      auto& handler = *static_cast<Stored*>(from);
                                      new (to) Stored(std::move(handler));
                                      handler.~Stored();
                                  },
                                  [](void* at, bool is_ready) {
                                      Stored handler(std::move(*static_cast<Stored*>(at)));  // the call may end what holds us
                                      static_cast<Stored*>(at)->~Stored();
                                      std::move(handler)(is_ready);
                                  },
                                  [](void* at) { static_cast<Stored*>(at)->~Stored(); }};
    void drop() {
        if (const Kind* kind = std::exchange(kind_, nullptr)) kind->destroy(&storage_);
    }

    alignas(void*) std::byte storage_[bytes];
    const Kind* kind_ = nullptr;
};

// What is to be awaited: `begin` gets the Waiter as soon as the coroutine is suspended. Gives what it is woken with.
template <class Begin>
[[nodiscard]] auto wait_by(Begin begin) {
    return asio::async_initiate<const asio::deferred_t, void(bool)>(
        [begin](auto&& handler) { begin(Waiter(std::forward<decltype(handler)>(handler))); }, asio::deferred);
}

}  // namespace pgporter
