// Writers: clients of the tenant that change rows all the time, each transaction through the gate and to where the
// snapshot says the tenant lives. Each remembers what was acknowledged; judge() compares that with what the database
// holds now. Threads of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/mover/move_world.hpp"

namespace pgporter::test {

class Writers {
  public:
    // Each waits for `pause` after a transaction: as busy as an application is, not as a loop can be.
    Writers(MoveWorld& world, int count, std::chrono::milliseconds pause = std::chrono::milliseconds(1));
    ~Writers() { stop(); }

    void start();
    void stop();
    void stop_at_flip() { stop_at_flip_.store(true); }  // nobody writes to the target: both sides stay comparable
    void wait_for_more(std::uint64_t transactions);
    [[nodiscard]] std::uint64_t acknowledged() const { return acknowledged_.load(); }
    [[nodiscard]] std::string failures() const;  // errors that clients saw
    [[nodiscard]] std::string judge();           // what is missing or doubled; empty when all is well

  private:
    void write(int writer);
    [[nodiscard]] static std::string transaction(int writer, std::int64_t sequence);

    MoveWorld& world_;
    int count_;
    std::chrono::milliseconds pause_;
    std::vector<std::thread> threads_;
    std::vector<std::int64_t> last_;  // of each writer: the last acknowledged number
    std::atomic<bool> stopping_{false};
    std::atomic<bool> stop_at_flip_{false};
    std::atomic<std::uint64_t> acknowledged_{0};
    mutable std::mutex mutex_;
    std::string failures_;
};

}  // namespace pgporter::test
