#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "admin/mover/copy_pacer.hpp"
#include "admin/mover/copy_throttle.hpp"
#include "admin/mover/neighbour_judge.hpp"
#include "admin/mover/pace.hpp"

using namespace pgporter;

TEST_CASE("neighbours that suffer halve the pace, down to the floor") {
    Pace pace(0.1);
    CHECK(pace.share() == 1);
    pace.judge(Neighbours::well);
    CHECK(pace.share() == 1);
    pace.judge(Neighbours::suffering);
    CHECK(pace.share() == doctest::Approx(0.5));
    pace.judge(Neighbours::bearable);
    CHECK(pace.share() == doctest::Approx(0.5));
    for (int i = 0; i < 10; ++i) pace.judge(Neighbours::suffering);
    CHECK(pace.share() == doctest::Approx(0.1));
    for (int i = 0; i < 200; ++i) pace.judge(i % 2 == 0 ? Neighbours::well : Neighbours::absent);
    CHECK(pace.share() == 1);
}

TEST_CASE("beside neighbours a copy begins gently and doubles its pace until they suffer") {
    Pace pace(0.05);
    pace.begin_gently();
    CHECK(pace.share() == doctest::Approx(0.05));
    for (int i = 0; i < 3; ++i) pace.judge(Neighbours::well);
    CHECK(pace.share() == doctest::Approx(0.4));
}

TEST_CASE("the pace comes back quickly to near where they suffered, and goes on from there with care") {
    Pace pace(0.05);
    pace.judge(Neighbours::suffering);  // at 1
    for (int i = 0; i < 3; ++i) pace.judge(Neighbours::well);
    CHECK(pace.share() == doctest::Approx(0.8));
    pace.judge(Neighbours::well);
    CHECK(pace.share() == doctest::Approx(0.808));
    pace.judge(Neighbours::well);
    CHECK(pace.share() == doctest::Approx(0.808 * 1.02));
    for (int i = 0; i < 10; ++i) pace.judge(Neighbours::well);
    CHECK(pace.share() == 1);
}

namespace {

// So many statements, of which so many were slow.
LatencyHistogram seen(std::uint64_t all, std::uint64_t slow) {
    LatencyHistogram histogram;
    histogram.add(LatencyHistogram::bucket_of(std::chrono::microseconds(1'000)), all - slow);
    histogram.add(LatencyHistogram::bucket_of(std::chrono::microseconds(5'000)), slow);
    return histogram;
}

NeighbourJudge judge_who_knows() {
    NeighbourJudge judge(1.5);
    judge.learn(seen(2'000, 5));
    return judge;
}

using std::chrono::milliseconds;

}  // namespace

TEST_CASE("neighbours suffer when too many of their statements are slow, and more than by chance") {
    auto judge = judge_who_knows();
    CHECK(judge.knows_plenty());
    judge.see(seen(50, 20));
    CHECK_FALSE(judge.judge(milliseconds(100)));  // too few to tell
    judge.see(seen(60, 0));
    CHECK(judge.judge(milliseconds(250)) == Neighbours::suffering);
    auto other = judge_who_knows();
    other.see(seen(300, 2));  // may be chance
    CHECK_FALSE(other.judge(milliseconds(1'500)));
    other.see(seen(300, 10));
    CHECK(other.judge(milliseconds(1'750)) == Neighbours::suffering);
}

TEST_CASE("neighbours are well when they were for a second; between that and suffering it is bearable") {
    auto judge = judge_who_knows();
    judge.see(seen(1'000, 1));
    CHECK_FALSE(judge.judge(milliseconds(750)));
    CHECK(judge.judge(milliseconds(1'000)) == Neighbours::well);
    judge.see(seen(500, 2));
    CHECK_FALSE(judge.judge(milliseconds(1'000)));
    CHECK(judge.judge(milliseconds(4'000)) == Neighbours::bearable);
}

TEST_CASE("what was spent too much is saved before more is tried, and slower than allowed is too slow until then") {
    auto judge = judge_who_knows();
    judge.see(seen(1'000, 50));
    CHECK(judge.judge(milliseconds(250)) == Neighbours::suffering);
    judge.see(seen(500, 0));
    CHECK(judge.judge(milliseconds(1'000)) == Neighbours::bearable);
    judge.see(seen(300, 4));
    CHECK(judge.judge(milliseconds(500)) == Neighbours::suffering);
    for (int i = 0; i < 20; ++i) {
        judge.see(seen(500, 0));
        static_cast<void>(judge.judge(milliseconds(1'000)));
    }
    judge.see(seen(500, 0));
    CHECK(judge.judge(milliseconds(1'000)) == Neighbours::well);
}

TEST_CASE("where nobody is, nobody suffers") {
    NeighbourJudge judge(1.5);
    CHECK(judge.knows_plenty());
    CHECK_FALSE(judge.has_neighbours());
    judge.see(seen(10, 10));
    CHECK_FALSE(judge.judge(milliseconds(1'000)));
    CHECK(judge.judge(milliseconds(4'000)) == Neighbours::absent);
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
    auto& slowed = registry.gauge("pgporter_move_copy_slowed_percent", "");
    CHECK(comes_true([&] { return slowed.value() >= 90; }));  // gently at first
    CHECK(comes_true([&] { return slowed.value() == 0; }));
    microseconds.store(900);
    CHECK(comes_true([&] { return throttle.state().throttled > 0.3; }));
    CHECK(throttle.state().by == "neighbours");
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
    CHECK(static_cast<double>(times.count_above(500)) == doctest::Approx(500).epsilon(0.1));
    CHECK(times.count_above(2'000) == 0);
    for (std::size_t bucket = 0; bucket < LatencyHistogram::buckets; ++bucket) {
        const auto middle = std::chrono::nanoseconds(static_cast<std::int64_t>(LatencyHistogram::microseconds_of(bucket) * 1'000));
        CHECK(LatencyHistogram::bucket_of(middle) == bucket);
    }
    CHECK(LatencyHistogram::bucket_of(std::chrono::hours(10)) == LatencyHistogram::buckets - 1);
    CHECK(LatencyHistogram::bucket_of(std::chrono::nanoseconds(-5)) == 0);
}
