#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "admin/mover/copy_pacer.hpp"
#include "admin/mover/copy_throttle.hpp"
#include "admin/mover/pace.hpp"

using namespace pgporter;

TEST_CASE("neighbours that suffer halve the pace, down to the floor; when they don't, it comes back step by step") {
    Pace pace({.latency_ratio_max = 1.5, .share_min = 0.1});
    CHECK(pace.share() == 1);
    pace.judge(1.2, false);
    CHECK(pace.share() == 1);
    pace.judge(1.6, false);
    CHECK(pace.share() == doctest::Approx(0.5));
    pace.judge(1.4, false);  // just below the bound: left alone
    CHECK(pace.share() == doctest::Approx(0.5));
    for (int i = 0; i < 10; ++i) pace.judge(9.0, false);
    CHECK(pace.share() == doctest::Approx(0.1));
    pace.judge(1.0, false);
    CHECK(pace.share() == doctest::Approx(0.15));
    pace.judge(std::nullopt, false);  // nobody is there
    CHECK(pace.share() == doctest::Approx(0.2));
    for (int i = 0; i < 100; ++i) pace.judge(1.0, false);
    CHECK(pace.share() == 1);
    pace.judge(1.0, true);  // standbys count too
    CHECK(pace.share() == doctest::Approx(0.5));
}

TEST_CASE("a ratio of 0 looks at no latency") {
    Pace pace({.latency_ratio_max = 0, .share_min = 0.1});
    pace.judge(100, false);
    CHECK(pace.share() == 1);
    pace.judge(100, true);
    CHECK(pace.share() == doctest::Approx(0.5));
}

TEST_CASE("fewer jobs first, then pauses") {
    CHECK(plan_pace(1, 4).workers == 4);
    CHECK(plan_pace(1, 4).duty == 1);
    CHECK(plan_pace(0.5, 4).workers == 2);
    CHECK(plan_pace(0.5, 4).duty == 1);
    CHECK(plan_pace(0.4, 4).workers == 2);
    CHECK(plan_pace(0.4, 4).duty == doctest::Approx(0.8));
    CHECK(plan_pace(0.05, 4).workers == 1);
    CHECK(plan_pace(0.05, 4).duty == doctest::Approx(0.2));
    CHECK(plan_pace(0.5, 1).workers == 1);
    CHECK(plan_pace(0.5, 1).duty == doctest::Approx(0.5));
}

TEST_CASE("the rate of bytes is kept by all threads together") {
    CopyPacer pacer(10'000'000);
    const Interrupt interrupt;
    const auto began = std::chrono::steady_clock::now();
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back([&] {
                CopyPacer::Worker worker(pacer);
                for (int piece = 0; piece < 10; ++piece) CHECK(worker.pay(200'000, interrupt));
            });
        }
    }
    // 6 MB, of which a tenth of a second's worth is free.
    CHECK(std::chrono::steady_clock::now() - began >= std::chrono::milliseconds(400));
    CHECK(pacer.slept(SlowedBy::rate) > std::chrono::milliseconds(300));
    CHECK(pacer.slept(SlowedBy::neighbours) == std::chrono::nanoseconds(0));
}

TEST_CASE("of too many threads some wait until others have ended; each ends") {
    CopyPacer pacer(0);
    pacer.set_pace({1, 1.0}, SlowedBy::neighbours);
    const Interrupt interrupt;
    std::atomic<int> ended{0};
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back([&] {
                CopyPacer::Worker worker(pacer);
                for (int piece = 0; piece < 5; ++piece) CHECK(worker.pay(1'000, interrupt));
                ++ended;
            });
        }
    }
    CHECK(ended.load() == 3);
}

TEST_CASE("a pause ends with the move") {
    CopyPacer pacer(1'000);
    Interrupt interrupt;
    CopyPacer::Worker worker(pacer);
    interrupt.cancel();
    const auto began = std::chrono::steady_clock::now();
    CHECK_FALSE(worker.pay(1'000'000, interrupt));
    CHECK(std::chrono::steady_clock::now() - began < std::chrono::milliseconds(900));
}

namespace {

// Tells of so many statements at each look, of this length.
class FakeWatch final : public LatencyWatch {
  public:
    explicit FakeWatch(std::atomic<int>& microseconds) : microseconds_(microseconds) {}
    [[nodiscard]] LatencyHistogram take() override {
        LatencyHistogram seen;
        seen.add(LatencyHistogram::bucket_of(std::chrono::microseconds(microseconds_.load())), 1'000);
        return seen;
    }

  private:
    std::atomic<int>& microseconds_;
};

bool comes_true(const std::function<bool()>& condition) {
    for (int i = 0; i < 1'000; ++i) {
        if (condition()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
}

}  // namespace

TEST_CASE("a copy is slowed down while the neighbours are slower than before it, and tells so") {
    std::atomic<int> microseconds{400};
    metrics::Registry registry;
    CopyThrottle::Watches watches;
    watches.push_back(std::make_unique<FakeWatch>(microseconds));
    CopyThrottle throttle({.latency_ratio_max = 1.5, .share_percent_min = 5, .jobs = 1}, std::move(watches), registry);
    CHECK(comes_true([&] { return throttle.knows_quiet(); }));
    throttle.begin();
    Interrupt interrupt;
    std::jthread copy([&](const std::stop_token& stop) {
        CopyPacer::Worker worker(throttle.pacer());
        while (!stop.stop_requested()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(2));  // its work
            if (!worker.pay(1'000, interrupt)) return;
        }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    CHECK(throttle.state().throttled == 0);
    microseconds.store(900);
    CHECK(comes_true([&] { return throttle.state().throttled > 0.3; }));
    CHECK(throttle.state().by == "neighbours");
    auto& slowed = registry.gauge("pgporter_move_copy_slowed_percent", "");
    CHECK(comes_true([&] { return slowed.value() >= 90; }));
    microseconds.store(400);
    CHECK(comes_true([&] { return slowed.value() < 90; }));
    throttle.end();
    CHECK(comes_true([&] { return slowed.value() == 0; }));
}

TEST_CASE("a latency histogram tells quantiles to a tenth") {
    LatencyHistogram times;
    CHECK(times.quantile_microseconds(0.99) == 0);
    for (int us = 1; us <= 1'000; ++us) times.add(LatencyHistogram::bucket_of(std::chrono::microseconds(us)), 1);
    CHECK(times.total() == 1'000);
    CHECK(times.quantile_microseconds(0.5) == doctest::Approx(500).epsilon(0.1));
    CHECK(times.quantile_microseconds(0.99) == doctest::Approx(990).epsilon(0.1));
    for (std::size_t bucket = 0; bucket < LatencyHistogram::buckets; ++bucket) {
        const auto middle = std::chrono::nanoseconds(static_cast<std::int64_t>(LatencyHistogram::microseconds_of(bucket) * 1'000));
        CHECK(LatencyHistogram::bucket_of(middle) == bucket);
    }
    CHECK(LatencyHistogram::bucket_of(std::chrono::hours(10)) == LatencyHistogram::buckets - 1);
    CHECK(LatencyHistogram::bucket_of(std::chrono::nanoseconds(-5)) == 0);
}
