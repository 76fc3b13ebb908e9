#include "catalog/follower.hpp"

#include <malloc.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "catalog/catalog_rows.hpp"
#include "catalog/store.hpp"
#include "catalog/store_connection.hpp"

namespace pgporter {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Milliseconds backoff_min{100};
constexpr Milliseconds backoff_max{5'000};
constexpr std::size_t changed_rows_max = 200;  // of more tenants than that, everything is read again: it is quicker
constexpr int save_share = 20;                 // at most a twentieth of the time goes into saving
constexpr Milliseconds save_pause_max{60'000};
constexpr Milliseconds sync_wait_extra{20'000};  // above the store's own bound for one answer

// What reading a large catalog took is as much again as the catalog, and glibc keeps it otherwise.
void give_back_memory() {
#if defined(__GLIBC__)
    ::malloc_trim(0);
#endif
}

}  // namespace

class CatalogFollower::Impl {
  public:
    Impl(const CatalogConfig& config, CatalogStore& store, SnapshotPublisher& publisher, metrics::Registry& registry)
        : config_(config),
          store_(store),
          publisher_(publisher),
          connected_gauge_(registry.gauge("pgporter_catalog_connected",
                                          "1 while this instance is connected to the catalog database")),
          version_gauge_(
              registry.gauge("pgporter_catalog_version", "Version of the catalog that this instance serves")),
          tenants_gauge_(
              registry.gauge("pgporter_catalog_tenants", "Tenants in the catalog that this instance serves")),
          resyncs_(registry.counter("pgporter_catalog_resyncs_total", "Times that the whole catalog was read")),
          wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        PP_ASSERT(wake_fd_ >= 0);
    }
    ~Impl() {
        stop();
        ::close(wake_fd_);
    }

    Result<void> start();
    void stop();
    Result<void> sync_now();
    [[nodiscard]] bool connected() const { return connected_; }

  private:
    // On the follower's thread, and in start() before there is one.
    void run();
    Result<void> connect_and_read();
    Result<void> update();
    Result<bool> read_changes();  // false: nothing changed
    Result<void> read_everything();
    Result<void> start_from_file(const Error& catalog_error);
    void publish(SnapshotPtr snapshot);
    void follow_once();
    void wait_after_failure(const Error& error, Milliseconds backoff);
    void save_if_due(bool at_end);
    void set_connected(bool connected);
    void answer(std::uint64_t served, std::optional<Error> error);
    [[nodiscard]] std::uint64_t asked();
    [[nodiscard]] Clock::time_point next_wake() const;
    void wake() const;
    void drain_wakes() const;

    const CatalogConfig config_;
    CatalogStore& store_;
    SnapshotPublisher& publisher_;
    metrics::Gauge& connected_gauge_;
    metrics::Gauge& version_gauge_;
    metrics::Gauge& tenants_gauge_;
    metrics::Counter& resyncs_;
    const int wake_fd_;

    std::atomic<bool> stopping_{false};
    std::atomic<bool> connected_{false};
    std::mutex mutex_;
    std::condition_variable answered_changed_;
    std::uint64_t asked_ = 0;     // sync_now() calls so far
    std::uint64_t answered_ = 0;  // of these, the ones with an answer
    std::optional<Error> answer_error_;
    std::thread thread_;

    // The thread's own.
    PgConnection connection_;
    CatalogMark mark_;
    Clock::time_point resync_at_{};
    bool unsaved_ = false;
    bool save_failed_ = false;
    Clock::time_point save_at_{};
};

Result<void> CatalogFollower::Impl::start() {
    PP_ASSERT(!thread_.joinable());
    const auto read = connect_and_read();
    if (!read) {
        connection_.close();
        PP_TRY(start_from_file(read.error()));
    }
    stopping_ = false;
    thread_ = std::thread([this] { run(); });
    return {};
}

Result<void> CatalogFollower::Impl::start_from_file(const Error& catalog_error) {
    Error error = catalog_error;
    if (config_.snapshot_file.empty()) {
        error.hint = "with catalog.snapshot_file a start without the catalog is possible";
        return error;
    }
    auto content = load_snapshot_file(config_.snapshot_file);
    if (!content) {
        error.detail = content.error().message + (content.error().detail.empty() ? "" : ": " + content.error().detail);
        error.hint = "start the catalog database, or see catalog.dsn";
        return error;
    }
    log::warning("catalog_started_from_file", {{"file", config_.snapshot_file},
                                               {"version", std::to_string(content->version.value)},
                                               {"error", catalog_error.message}});
    publish(Snapshot::build(*std::move(content)));
    return {};
}

void CatalogFollower::Impl::stop() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    wake();
    thread_.join();
}

Result<void> CatalogFollower::Impl::sync_now() {
    if (!thread_.joinable()) return fail(ErrorKind::unavailable, "the catalog isn't followed");
    std::unique_lock lock(mutex_);
    const std::uint64_t mine = ++asked_;
    wake();
    const bool answered = answered_changed_.wait_for(lock, config_.connect_timeout_ms + sync_wait_extra,
                                                     [&] { return answered_ >= mine; });
    if (!answered) return fail(ErrorKind::timeout, "the catalog was not read in time");
    if (answer_error_) return *answer_error_;
    return {};
}

void CatalogFollower::Impl::run() {
    auto backoff = backoff_min;
    while (!stopping_) {
        if (connection_.is_open()) {
            follow_once();
            backoff = backoff_min;
            continue;
        }
        set_connected(false);
        const std::uint64_t serving = asked();
        const auto read = connect_and_read();
        if (read) {
            log::info("catalog_connected", {{"version", std::to_string(mark_.version.value)}});
            answer(serving, std::nullopt);
            continue;
        }
        connection_.close();
        answer(serving, read.error());
        wait_after_failure(read.error(), backoff);
        backoff = std::min(backoff * 2, backoff_max);
    }
    answer(asked(), fail(ErrorKind::cancelled, "this instance is stopping"));
    save_if_due(/*at_end=*/true);
    set_connected(false);
    connection_.close();
}

// Waits for a notification, a request or the next appointed time; then does what there is to do. Notifications that
// arrived together are one update.
void CatalogFollower::Impl::follow_once() {
    save_if_due(/*at_end=*/false);
    // A notification may have come in together with the answer to the last statement: then the socket stays silent.
    auto notes = connection_.notifications();
    if (notes && notes->empty()) {
        const auto wait = std::chrono::ceil<Milliseconds>(next_wake() - Clock::now());
        (void)connection_.wait_readable(wait, wake_fd_);
        drain_wakes();
        if (stopping_) return;
        notes = connection_.notifications();
    }
    const std::uint64_t serving = asked();
    bool is_asked = false;
    {
        const std::lock_guard lock(mutex_);
        is_asked = serving > answered_;
    }
    std::optional<Error> error;
    if (!notes) {
        error = notes.error();
    } else if (!notes->empty() || is_asked || Clock::now() >= resync_at_) {
        const auto updated = update();
        if (!updated) error = updated.error();
    } else {
        return;
    }
    if (error) {
        log::warning("catalog_lost", {{"error", error->message}});
        connection_.close();  // whatever it was: connecting again and reading everything is the one way back
        return;               // who asked gets the answer of that
    }
    answer(serving, std::nullopt);
}

void CatalogFollower::Impl::wait_after_failure(const Error& error, Milliseconds backoff) {
    log::warning("catalog_unreachable", {{"error", error.message}, {"retry_ms", std::to_string(backoff.count())}});
    const auto until = Clock::now() + backoff;
    while (!stopping_ && Clock::now() < until) {
        const auto left = std::chrono::ceil<Milliseconds>(until - Clock::now());
        if (connection_.wait_readable(left, wake_fd_)) {
            drain_wakes();
            break;  // somebody asked, or stop(): at once
        }
    }
}

Result<void> CatalogFollower::Impl::connect_and_read() {
    PP_TRY(store_.open());  // the schema may not be there yet, or be an older version's
    auto connection = connect_catalog(config_, "catalog follower");
    if (!connection) return connection.error();
    connection_ = *std::move(connection);
    PP_TRY(connection_.exec("LISTEN pgporter_catalog"));  // before the read: what changes after it is told
    PP_TRY(read_everything());
    give_back_memory();
    set_connected(true);
    return {};
}

Result<void> CatalogFollower::Impl::update() {
    resync_at_ = Clock::now() + config_.resync_ms;
    PP_TRY(connection_.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"));
    const auto partly = read_changes();
    if (!partly) return partly.error();
    PP_TRY(connection_.exec("COMMIT"));
    if (*partly) return {};
    PP_TRY(read_everything());
    give_back_memory();
    return {};
}

// Reads the tenants that changed, if that is all there is to read. False: everything must be read.
Result<bool> CatalogFollower::Impl::read_changes() {
    const auto mark = read_mark(connection_);
    if (!mark) return mark.error();
    if (mark->version == mark_.version) return true;
    const bool only_tenants = mark->version > mark_.version && mark->others_version == mark_.others_version &&
                              mark->tenants_removed == mark_.tenants_removed;
    if (!only_tenants) return false;
    const auto changed = read_changed_tenants(connection_, mark_.version, changed_rows_max);
    if (!changed) return changed.error();
    if (changed->size() > changed_rows_max) return false;
    SnapshotPtr next = publisher_.current();
    for (const auto& tenant : *changed) next = Snapshot::with_tenant(next, tenant, mark->version);
    mark_ = *mark;
    publish(std::move(next));
    return true;
}

Result<void> CatalogFollower::Impl::read_everything() {
    PP_TRY(connection_.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"));
    auto read = read_catalog(connection_);
    if (!read) return read.error();
    PP_TRY(connection_.exec("COMMIT"));
    const SnapshotPtr before = publisher_.current();
    if (before && read->content.version < before->version()) {
        // A flip of this moment may be published already; a catalog restored from a backup stays behind for good.
        log::warning("catalog_older_than_served", {{"catalog_version", std::to_string(read->content.version.value)},
                                                   {"served_version", std::to_string(before->version().value)}});
    }
    mark_ = read->mark;
    resync_at_ = Clock::now() + config_.resync_ms;
    resyncs_.inc();
    unsaved_ = true;
    publish(Snapshot::build(std::move(read->content)));
    return {};
}

void CatalogFollower::Impl::publish(SnapshotPtr snapshot) {
    const SnapshotPtr before = publisher_.current();
    if (snapshot == before) return;
    publisher_.publish(std::move(snapshot));
    const SnapshotPtr now = publisher_.current();
    unsaved_ = unsaved_ || connection_.is_open();  // what came from the file needn't go back there
    version_gauge_.set(static_cast<std::int64_t>(now->version().value));
    tenants_gauge_.set(static_cast<std::int64_t>(now->tenant_count()));
}

void CatalogFollower::Impl::save_if_due(bool at_end) {
    if (!unsaved_ || config_.snapshot_file.empty() || (!at_end && Clock::now() < save_at_)) return;
    const auto begun = Clock::now();
    const auto saved = save_snapshot_file(*publisher_.current(), config_.snapshot_file);
    if (!saved && !save_failed_) {  // once for each time that it stops working
        log::warning("snapshot_file_not_saved", {{"error", saved.error().message}, {"detail", saved.error().detail}});
    }
    save_failed_ = !saved;
    unsaved_ = !saved;
    const auto took = std::chrono::ceil<Milliseconds>(Clock::now() - begun);
    save_at_ = Clock::now() + (saved ? std::min(took * save_share, save_pause_max) : backoff_max);
}

Clock::time_point CatalogFollower::Impl::next_wake() const {
    const bool will_save = unsaved_ && !config_.snapshot_file.empty();
    return will_save ? std::min(resync_at_, save_at_) : resync_at_;
}

void CatalogFollower::Impl::set_connected(bool connected) {
    connected_ = connected;
    connected_gauge_.set(connected ? 1 : 0);
}

std::uint64_t CatalogFollower::Impl::asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
}

void CatalogFollower::Impl::answer(std::uint64_t served, std::optional<Error> error) {
    const std::lock_guard lock(mutex_);
    if (served <= answered_) return;
    answered_ = served;
    answer_error_ = std::move(error);
    answered_changed_.notify_all();
}

void CatalogFollower::Impl::wake() const {
    const std::uint64_t one = 1;
    while (::write(wake_fd_, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void CatalogFollower::Impl::drain_wakes() const {
    std::uint64_t count = 0;
    while (::read(wake_fd_, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

CatalogFollower::CatalogFollower(const CatalogConfig& config, CatalogStore& store, SnapshotPublisher& publisher,
                                 metrics::Registry& registry)
    : impl_(std::make_unique<Impl>(config, store, publisher, registry)) {}

CatalogFollower::~CatalogFollower() = default;

Result<void> CatalogFollower::start() {
    return impl_->start();
}

void CatalogFollower::stop() {
    impl_->stop();
}

bool CatalogFollower::connected() const {
    return impl_->connected();
}

Result<void> CatalogFollower::sync_now() {
    return impl_->sync_now();
}

}  // namespace pgporter
