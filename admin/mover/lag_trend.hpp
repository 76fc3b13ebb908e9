// LagTrend: does the stream's lag shrink? Samples of how far the target is behind, over a window. Pure; one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>

namespace pgporter {

class LagTrend {
  public:
    using Time = std::chrono::steady_clock::time_point;
    explicit LagTrend(std::chrono::milliseconds window) : window_(window) {}

    void add(Time now, std::uint64_t lag_bytes);
    void forget() { samples_.clear(); }
    // A whole window was seen, and its newer half didn't come below the older one. What is next to nothing doesn't count: it comes and goes.
    [[nodiscard]] bool is_falling_behind() const;

  private:
    struct Sample {
        Time at;
        std::uint64_t lag_bytes;
    };
    std::chrono::milliseconds window_;
    std::deque<Sample> samples_;
};

}  // namespace pgporter
