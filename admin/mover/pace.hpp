// Pace: how much of its full speed a copy may use, so that those who share the server hardly notice. Where somebody is, it begins at a floor and
// doubles until they suffer; then it is halved, comes back quickly to near where they did, and from there with care, the bolder the longer all
// is well. Never below the floor: a move must end. Pure; one thread.
#pragma once

#include <cstdint>
#include <optional>

namespace pgporter {

// How those who share the servers are, as far as it is the copy's doing.
enum class Neighbours {
    absent,
    well,       // there is room for more
    bearable,   // as it is, but no more
    suffering,
};

class Pace {
  public:
    explicit Pace(double share_min) : share_min_(share_min) {}

    void begin_gently() { share_ = share_min_; }  // else at full speed
    void judge(Neighbours neighbours);
    [[nodiscard]] double share() const { return share_; }  // of full speed, up to 1

  private:
    [[nodiscard]] double faster() const;

    double share_min_;
    double share_ = 1;
    std::optional<double> ceiling_;   // the share at which they suffered last
    std::uint32_t well_near_it_ = 0;  // judgements in a row
};

// The share by fewer jobs first, and what is left of it by pauses of those that work.
struct PacePlan {
    std::uint32_t workers = 1;
    double duty = 1;  // of a worker's time
    bool is_slowed = false;
};
[[nodiscard]] PacePlan plan_pace(double share, std::uint32_t jobs);

}  // namespace pgporter
