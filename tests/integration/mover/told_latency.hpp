// ToldLatency: neighbours whose statements take as long as a test wants. Any thread; outlives the mover that asks it.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string_view>

#include "catalog/neighbour_latency.hpp"

namespace pgporter::test {

class ToldLatency final : public NeighbourLatency {
  public:
    std::atomic<int> microseconds{400};
    std::atomic<int> watches{0};

    [[nodiscard]] std::unique_ptr<LatencyWatch> watch(std::string_view) override { return std::make_unique<Watch>(*this); }

  private:
    class Watch final : public LatencyWatch {
      public:
        explicit Watch(ToldLatency& told) : told_(told) { ++told_.watches; }
        ~Watch() override { --told_.watches; }
        [[nodiscard]] LatencyHistogram take() override {
            LatencyHistogram seen;
            seen.add(LatencyHistogram::bucket_of(std::chrono::microseconds(told_.microseconds.load())), 1'000);
            return seen;
        }

      private:
        ToldLatency& told_;
    };
};

}  // namespace pgporter::test
