// Tests wait for conditions, never for a time.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace pgporter::test {

// True as soon as `condition` is; false when it isn't within `limit`.
inline bool becomes_true(const std::function<bool()>& condition,
                         std::chrono::milliseconds limit = std::chrono::seconds(15)) {
    const auto until = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > until) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
}

}  // namespace pgporter::test
