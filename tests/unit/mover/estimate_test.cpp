#include <doctest/doctest.h>

#include "admin/mover/estimate.hpp"

using namespace pgporter;

namespace {

struct Watched {
    Estimate estimate;
    MoveProgress progress;
    Estimate::Time now{};

    void see(MoveState state, double seconds) {
        now += std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
        estimate.see(now, state, progress);
    }
};

}  // namespace

TEST_CASE("before the copy the sizes are all there is, and while it runs its own speed counts") {
    Watched move;
    move.estimate.set_size(1'200'000'000);
    move.progress.rows_total_estimate = 1'000'000;
    move.see(MoveState::schema, 0.5);
    REQUIRE(move.estimate.seconds_left().has_value());
    CHECK(*move.estimate.seconds_left() == doctest::Approx(1 + 20 + 10 + 6));
    CHECK(move.estimate.bytes_total() == 1'200'000'000);
    // 10,000 rows a second, of 100 bytes each.
    for (int i = 0; i < 20; ++i) {
        move.see(MoveState::copy, 0.5);
        move.progress.rows_copied += 5'000;
        move.progress.bytes_copied += 500'000;
    }
    move.see(MoveState::copy, 0.5);
    CHECK(move.estimate.bytes_per_second() == doctest::Approx(1'000'000));
    CHECK(move.estimate.bytes_total() == 100'000'000);
    CHECK(*move.estimate.seconds_left() == doctest::Approx(90 + 10 + 6));
    // It is slowed down: that is seen within the window.
    for (int i = 0; i < 40; ++i) {
        move.progress.rows_copied += 500;
        move.see(MoveState::copy, 0.5);
    }
    CHECK(*move.estimate.seconds_left() == doctest::Approx(880 + 16));
}

TEST_CASE("more rows than the statistics knew, or none at all, break nothing") {
    Watched move;
    move.progress.rows_copied = 5'000;
    move.progress.bytes_copied = 5'000;
    move.see(MoveState::copy, 1);
    move.see(MoveState::copy, 1);
    CHECK(*move.estimate.seconds_left() == 0);
    Watched empty;
    empty.see(MoveState::copy, 1);
    empty.see(MoveState::index, 1);
    empty.see(MoveState::catchup, 1);
    CHECK(*empty.estimate.seconds_left() == 0);
}

TEST_CASE("a copy that stands still has no end that could be told") {
    Watched move;
    move.progress.rows_total_estimate = 1'000'000;
    move.progress.rows_copied = 10;
    for (int i = 0; i < 30; ++i) move.see(MoveState::copy, 1);
    CHECK_FALSE(move.estimate.seconds_left().has_value());
}

TEST_CASE("a lag that shrinks ends; one that doesn't, doesn't; and who waits for an operator isn't timed") {
    Watched move;
    move.progress.lag_bytes = 100'000'000;
    for (int i = 0; i < 10; ++i) {
        move.see(MoveState::catchup, 1);
        move.progress.lag_bytes -= 5'000'000;
    }
    move.see(MoveState::catchup, 1);
    CHECK(*move.estimate.seconds_left() == doctest::Approx(10));
    for (int i = 0; i < 30; ++i) {
        move.progress.lag_bytes += 1'000'000;
        move.see(MoveState::catchup, 1);
    }
    CHECK_FALSE(move.estimate.seconds_left().has_value());
    move.progress.rows_verified = 7;
    move.see(MoveState::verify, 1);
    CHECK_FALSE(move.estimate.seconds_left().has_value());
    move.see(MoveState::reversing, 1);
    CHECK_FALSE(move.estimate.seconds_left().has_value());
}

TEST_CASE("building indexes counts down, and never below what it took longer") {
    Watched move;
    move.estimate.set_size(1'200'000'000);
    move.see(MoveState::index, 1);
    CHECK(*move.estimate.seconds_left() == doctest::Approx(10 + 6));
    move.see(MoveState::index, 5);
    CHECK(*move.estimate.seconds_left() == doctest::Approx(5 + 6));
    move.see(MoveState::index, 95);
    CHECK(*move.estimate.seconds_left() == doctest::Approx(10 + 6));
}
