#include "base/memory_reserve.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace pgporter::memory_reserve {
namespace {

std::atomic<void*> reserve{nullptr};
std::atomic<bool> given_up{false};
std::size_t reserve_bytes = 0;

// Called by operator new when malloc has failed; when it returns, operator new tries again.
void on_failed_allocation() {
    void* const ours = reserve.exchange(nullptr);
    if (ours == nullptr) throw std::bad_alloc();
    given_up = true;
    std::free(ours);
}

}  // namespace

void install(std::size_t bytes) {
    reserve_bytes = bytes;
    std::set_new_handler(on_failed_allocation);
    refill();
}

bool is_short() {
    return given_up.load(std::memory_order_relaxed);
}

bool refill() {
    if (reserve_bytes == 0 || reserve.load() != nullptr) return true;
    void* const fresh = std::malloc(reserve_bytes);  // never touched: address space, but no memory
    if (fresh == nullptr) return false;
    void* none = nullptr;
    if (!reserve.compare_exchange_strong(none, fresh)) std::free(fresh);
    given_up = false;
    return true;
}

}  // namespace pgporter::memory_reserve
