#include "proxy/app/serve.hpp"

#include <pthread.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "admin/api/http_server.hpp"
#include "admin/mover/mover.hpp"
#include "base/log.hpp"
#include "base/memory_reserve.hpp"
#include "base/metrics.hpp"
#include "catalog/config_loader.hpp"
#include "catalog/follower.hpp"
#include "catalog/instances.hpp"
#include "catalog/snapshot.hpp"
#include "catalog/store.hpp"
#include "proxy/net/process_limits.hpp"
#include "proxy/session/acceptor.hpp"
#include "proxy/session/gate_impl.hpp"
#include "proxy/session/worker.hpp"

namespace pgporter {
namespace {

sigset_t awaited_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

void set_up_log(const std::string& level) {
    auto logger = std::make_shared<spdlog::logger>("pgporter", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
    logger->set_level(spdlog::level::debug);
    logger->flush_on(spdlog::level::debug);
    log::set_level(level == "debug"     ? log::Level::debug
                   : level == "warning" ? log::Level::warning
                   : level == "error"   ? log::Level::error
                                        : log::Level::info);
    log::set_sink([logger](log::Level line_level, const std::string& line) {
        switch (line_level) {
            case log::Level::debug: logger->debug("{}", line); break;
            case log::Level::info: logger->info("{}", line); break;
            case log::Level::warning: logger->warn("{}", line); break;
            case log::Level::error: logger->error("{}", line); break;
        }
    });
}

// The data path: workers and listeners.
class DataPath {
  public:
    DataPath(const Config& config, metrics::Registry& registry) : shared_(config, registry) {
        for (std::size_t i = 0; i < config.threads; ++i) shared_.workers.push_back(std::make_unique<Worker>(shared_, i));
    }
    ~DataPath() { stop(); }

    Result<void> listen() {
        for (const ListenConfig& address : shared_.config.listen) {
            Result<std::shared_ptr<Acceptor>> acceptor = Acceptor::open(shared_, address);
            if (!acceptor) return acceptor.error();
            acceptors_.push_back(*acceptor);
        }
        return {};
    }
    void start(SnapshotPublisher& publisher) {
        publisher.subscribe([this](const SnapshotPtr& snapshot) {
            note_server_connections(*snapshot);
            for (const auto& worker : shared_.workers) {
                worker->thread().post([raw = worker.get(), snapshot] { raw->set_snapshot(snapshot); });
            }
        });
        for (const auto& worker : shared_.workers) worker->thread().start();
        for (const auto& acceptor : acceptors_) {
            acceptor->run();
            log::info("listening", {{"address", acceptor->address()}, {"port", std::to_string(acceptor->port())}});
        }
    }
    // New handshakes get what the files have now; a listener whose files are broken keeps what it has. Not on a worker's thread: reading may take
    // its time.
    void reload_certificates(bool in_any_case) {
        std::int64_t expires_at = 0;
        for (const auto& acceptor : acceptors_) {
            if (!acceptor->tls()) continue;
            const std::string where = acceptor->address() + ":" + std::to_string(acceptor->port());
            Result<bool> reloaded = acceptor->tls()->reload(in_any_case);
            if (!reloaded) {
                shared_.tls_metrics.failed_reloads.inc();
                log::error("tls_reload_failed", {{"listener", where}, {"reason", reloaded.error().message}, {"detail", reloaded.error().detail}});
            } else if (*reloaded) {
                shared_.tls_metrics.reloads.inc();
                log::info("tls_reloaded", {{"listener", where}});
            }
            const std::int64_t expiry = acceptor->tls()->current()->expires_at();
            if (expires_at == 0 || expiry < expires_at) expires_at = expiry;
        }
        shared_.tls_metrics.expires_at.set(expires_at);
    }
    // No new client; transactions may finish until limits.shutdown_ms_max.
    void drain() {
        shared_.draining = true;
        for (const auto& acceptor : acceptors_) {
            shared_.workers.front()->thread().post([acceptor] { acceptor->stop(); });
        }
        const auto deadline = std::chrono::steady_clock::now() + shared_.config.limits.shutdown_ms_max;
        for (const auto& worker : shared_.workers) worker->thread().post([raw = worker.get()] { raw->drain(); });
        wait_for_sessions(deadline);
        for (const auto& worker : shared_.workers) worker->thread().post([raw = worker.get()] { raw->end_all(); });
        wait_for_sessions(std::chrono::steady_clock::now() + std::chrono::milliseconds(500));
    }
    void stop() {
        for (const auto& worker : shared_.workers) worker->thread().stop();
        acceptors_.clear();
    }
    [[nodiscard]] DataPathShared& shared() { return shared_; }

  private:
    // One publication at a time.
    void note_server_connections(const Snapshot& snapshot) {
        std::uint64_t sum = 0;
        for (const Cluster& cluster : snapshot.clusters()) sum += cluster.server_connections_max;
        const auto servers = static_cast<std::uint32_t>(std::min<std::uint64_t>(sum, UINT32_MAX));
        if (shared_.server_connections_max.exchange(servers) == servers) return;
        const LimitsConfig& limits = shared_.config.limits;
        const std::uint64_t needed = std::uint64_t{limits.sessions_max} + limits.logins_max + limits.descriptors_reserved + sum;
        const std::uint64_t there = descriptors_max();
        if (needed <= there) return;
        log::warning("too_few_descriptors", {{"limit", std::to_string(there)},
                                             {"needed", std::to_string(needed)},
                                             {"hint", "raise the limit on open files (LimitNOFILE), or lower limits.sessions_max"}});
    }
    void wait_for_sessions(std::chrono::steady_clock::time_point deadline) {
        while (shared_.sessions.load() + shared_.logins.load() != 0 && std::chrono::steady_clock::now() < deadline) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
    }

    DataPathShared shared_;
    std::vector<std::shared_ptr<Acceptor>> acceptors_;
};

// Until somebody wants us to stop; certificates are looked after meanwhile.
int wait_for_stop(DataPath& data_path) {
    const sigset_t signals = awaited_signals();
    constexpr timespec look_at_certificates_every{2, 0};
    data_path.reload_certificates(false);
    while (true) {
        const int signal_number = sigtimedwait(&signals, nullptr, &look_at_certificates_every);
        if (signal_number == SIGINT || signal_number == SIGTERM) return signal_number;
        data_path.reload_certificates(signal_number == SIGHUP);
        if (memory_reserve::is_short()) log::warning("memory_is_short", {{"is_over", memory_reserve::refill() ? "yes" : "no"}});
    }
}

}  // namespace

void block_signals() {
    const sigset_t set = awaited_signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

Result<void> serve(const std::string& config_file) {
    Result<Config> config = load_config(config_file);
    if (!config) return config.error();
    set_up_log(config->log_level);
    raise_descriptors_max();
    constexpr std::size_t memory_reserve_bytes = 16U << 20;
    memory_reserve::install(memory_reserve_bytes);

    metrics::Registry registry;
    SnapshotPublisher publisher;
    DataPath data_path(*config, registry);
    PP_TRY(data_path.listen());

    CatalogStore store(config->catalog);
    CatalogFollower follower(config->catalog, store, publisher, registry);
    if (const Result<void> opened = store.open(); !opened) {
        // A broken or newer catalog stops the start; one that can't be reached may be served from the saved snapshot.
        if (opened.error().kind != ErrorKind::unavailable && opened.error().kind != ErrorKind::timeout) return opened.error();
        log::warning("catalog_unreachable", {{"reason", opened.error().message}, {"detail", opened.error().detail}});
    }
    PP_TRY(follower.start());

    DataPathGate gate(data_path.shared());
    Instances instances({*config, store.instance(), gate, publisher, [&follower] { return follower.sync_now(); }, registry});
    data_path.shared().on_fence_met = [&instances](const std::string& tenant) { instances.on_fence_met(tenant); };
    data_path.shared().hears_all = [&instances] { return instances.hears_all(); };
    Mover mover({*config, store, instances, publisher, registry, &data_path.shared().pool_metrics.latency});
    HttpServer api({*config, store, follower, publisher, mover, registry, [&data_path] { return data_path.shared().draining.load(); }});
    PP_TRY(api.start());
    data_path.start(publisher);
    instances.start([&mover] { mover.recover(); });
    mover.recover();
    log::info("serving", {{"version", PGPORTER_VERSION}, {"admin_port", std::to_string(api.port())}});

    const int signal_number = wait_for_stop(data_path);
    log::info("stopping", {{"signal", std::to_string(signal_number)}});
    mover.stop();
    data_path.drain();
    api.stop();
    instances.stop();
    follower.stop();
    data_path.stop();
    log::info("stopped");
    log::set_sink(nullptr);
    return {};
}

}  // namespace pgporter
