// Pace: how much of its full speed a copy may use, so that those who share the server hardly notice: halved while they suffer, raised step
// by step while they don't (additive increase, multiplicative decrease), never below a floor: a move must end. Pure; one thread.
#pragma once

#include <cstdint>
#include <optional>

namespace pgporter {

class Pace {
  public:
    struct Bounds {
        double latency_ratio_max = 1.5;  // of the neighbours' latency to that before the copy; 0: not looked at
        double share_min = 0.05;
    };
    explicit Pace(Bounds bounds) : bounds_(bounds) {}

    // What was seen since the last judgement. No ratio: too few transactions to tell, so there is nobody to disturb.
    void judge(std::optional<double> latency_ratio, bool standbys_lag);
    [[nodiscard]] double share() const { return share_; }  // of full speed, up to 1

  private:
    Bounds bounds_;
    double share_ = 1;
};

// The share by fewer jobs first, and what is left of it by pauses of those that work.
struct PacePlan {
    std::uint32_t workers = 1;
    double duty = 1;  // of a worker's time
};
[[nodiscard]] PacePlan plan_pace(double share, std::uint32_t jobs);

}  // namespace pgporter
