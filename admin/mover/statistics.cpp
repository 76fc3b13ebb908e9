#include "admin/mover/statistics.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds tick_every{200};

// What the analyzing threads share. The first failure ends them all.
class AnalyzeWork {
  public:
    AnalyzeWork(const std::vector<SourceTable>& tables, std::size_t jobs) {
        for (const auto& table : tables) tables_.push_back(&table);
        // A partitioned table reads its partitions, however few pages it has itself: first of all.
        std::stable_sort(tables_.begin(), tables_.end(), [](const auto* a, const auto* b) {
            return a->partitioned != b->partitioned ? a->partitioned : a->bytes > b->bytes;
        });
        running_ = std::min(jobs, tables_.size());
    }
    [[nodiscard]] std::size_t workers() const { return running_; }  // before they run

    const SourceTable* next() {
        const std::lock_guard lock(mutex_);
        return failure_ || taken_ == tables_.size() ? nullptr : tables_[taken_++];
    }
    void end(const Result<void>& result) {
        const std::lock_guard lock(mutex_);
        if (!result && !failure_) failure_ = result.error();
        --running_;
        changed_.notify_all();
    }
    bool wait_for_end() {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, tick_every, [this] { return running_ == 0; });
    }
    [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }  // when they have ended

  private:
    std::vector<const SourceTable*> tables_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t taken_ = 0;
    std::size_t running_ = 0;
    std::optional<Error> failure_;
};

Result<void> run_worker(const MoveServers& servers, AnalyzeWork& work) {
    auto target = servers.target();
    if (!target) return target.error();
    PP_TRY((*target)->exec("SET synchronous_commit = off"));
    while (const auto* table = work.next()) PP_TRY((*target)->exec("ANALYZE " + table->qualified_name()));
    return (*target)->flush_log();
}

}  // namespace

Result<void> analyze_tables(const MoveServers& servers, const std::vector<SourceTable>& tables, std::uint32_t jobs,
                            const std::function<void()>& tick) {
    AnalyzeWork work(tables, std::max<std::uint32_t>(jobs, 1));
    {
        std::vector<std::jthread> threads;
        for (auto left = work.workers(); left > 0; --left) {
            threads.emplace_back([&servers, &work] { work.end(run_worker(servers, work)); });
        }
        while (!work.wait_for_end()) tick();
    }
    if (work.failure()) return *work.failure();
    return {};
}

}  // namespace pgporter
