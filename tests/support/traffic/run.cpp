#include "tests/support/traffic/run.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <thread>

#include "tests/support/traffic/client.hpp"
#include "tests/support/traffic/report.hpp"

namespace pgporter::traffic {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kClientsMax = 2000;
constexpr auto kStopWait = std::chrono::seconds(20);  // for answers that are still due when the run ends

std::int64_t now_us() {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Owns the phases and what is typed; used by the main thread alone.
class Control {
  public:
    Control(RunState& state, int signals) : state_(state), signals_(signals) { phases_.push_back({"start", now_us(), 0}); }

    // Returns when the run shall end.
    void until(std::optional<Clock::time_point> deadline) {
        while (!is_stopped_) {
            int timeout_ms = -1;
            if (deadline) {
                const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
                if (left <= 0) break;
                timeout_ms = static_cast<int>(std::min<std::int64_t>(left, 60'000));
            }
            pollfd watched[] = {{signals_, POLLIN, 0}, {input_is_open_ ? STDIN_FILENO : -1, POLLIN, 0}};
            if (::poll(watched, 2, timeout_ms) < 0 && errno != EINTR) break;
            if (watched[0].revents != 0) is_stopped_ = true;
            if (watched[1].revents != 0) read_input();
        }
        phases_.back().end_us = now_us();
    }

    [[nodiscard]] const std::vector<Phase>& phases() const { return phases_; }
    [[nodiscard]] const std::vector<Window>& windows() const { return windows_; }

  private:
    void read_input() {
        char buffer[4096];
        const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (got <= 0) {
            input_is_open_ = false;
            return;
        }
        pending_.append(buffer, static_cast<std::size_t>(got));
        for (std::size_t end = 0; (end = pending_.find('\n')) != std::string::npos; pending_.erase(0, end + 1)) {
            obey(pending_.substr(0, end));
        }
    }

    void obey(const std::string& line) {
        std::istringstream words(line);
        std::string command;
        words >> command;
        if (command == "phase") {
            Phase phase;
            words >> phase.name;
            phase.start_us = now_us();
            phases_.back().end_us = phase.start_us;
            phases_.push_back(phase);
            state_.phase = static_cast<std::uint32_t>(phases_.size() - 1);
        } else if (command == "window") {
            Window window;
            words >> window.name >> window.from_us >> window.to_us;
            windows_.push_back(window);
        } else if (command == "status") {
            print_status();
        } else if (command == "stop") {
            is_stopped_ = true;
        } else if (!command.empty()) {
            std::cerr << "traffic: unknown command " << command << '\n';
        }
    }

    void print_status() const {
        boost::json::object status;
        status["phase"] = phases_.back().name;
        status["transactions"] = state_.transactions.load();
        status["failed_queries"] = state_.failed.load();
        status["unknown"] = state_.unknown.load();
        status["wrong_tenant"] = state_.wrong_tenant.load();
        std::cout << boost::json::serialize(status) << std::endl;
    }

    RunState& state_;
    int signals_;
    bool is_stopped_ = false;
    bool input_is_open_ = true;
    std::string pending_;
    std::vector<Phase> phases_;
    std::vector<Window> windows_;
};

// Clients of one tenant are spread over the whole list, so that any prefix of it has nearly all tenants.
std::vector<std::uint32_t> spread(const std::vector<TenantShare>& tenants, std::size_t clients) {
    std::vector<std::uint32_t> order;
    for (std::size_t round = 0;; ++round) {
        const std::size_t before = order.size();
        for (std::size_t i = 0; i < tenants.size(); ++i) {
            if (tenants[i].clients > round) order.push_back(static_cast<std::uint32_t>(i));
        }
        if (order.size() == before) break;
    }
    if (clients == 0) return order;
    std::vector<std::uint32_t> chosen;
    for (std::size_t i = 0; i < clients; ++i) chosen.push_back(order[i % order.size()]);
    return chosen;
}

std::vector<std::unique_ptr<Client>> make_clients(const RunOptions& options, const std::vector<std::string>& names,
                                                  RunState& state) {
    // Client numbers are new with each run, so that a second run over the same databases has a ledger of its own.
    const std::int64_t first_id = now_us() / 1'000'000 * 10'000;
    std::vector<std::unique_ptr<Client>> clients;
    const auto add = [&](const std::string& dsn, std::vector<std::uint32_t> tenants) {
        ClientOptions client;
        client.id = first_id + static_cast<std::int64_t>(clients.size());
        client.seed = options.seed * 1'000'003 + clients.size();
        client.rate = options.rate;
        client.dsn = dsn;
        client.tenants = std::move(tenants);
        clients.push_back(std::make_unique<Client>(std::move(client), names, state));
    };
    for (const std::uint32_t tenant : spread(options.tenants, options.clients)) add(dsn_for(options.dsn, names[tenant]), {tenant});
    std::vector<std::uint32_t> all(names.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint32_t>(i);
    for (std::size_t i = 0; i < options.switching_clients; ++i) add(options.switching_dsn, all);
    return clients;
}

Result<void> write_report(const RunOptions& options, const std::string& report, const History& history) {
    std::cout << report << std::endl;
    if (!options.report_file.empty()) {
        std::ofstream file(options.report_file, std::ios::trunc);
        file << report << '\n';
        if (!file.flush()) return fail(ErrorKind::unavailable, "can't write the report", options.report_file);
    }
    if (!options.history_file.empty()) return write_history(options.history_file, history);
    return {};
}

// Clients end when their last answer is there. One that waits in vain is cut off, and its transaction counts as failed.
void end_clients(std::vector<std::unique_ptr<Client>>& clients, std::vector<std::thread>& threads, RunState& state) {
    state.stop = true;
    const auto patience_ends = Clock::now() + kStopWait;
    const auto all_done = [&] {
        return std::all_of(clients.begin(), clients.end(), [](const auto& client) { return client->is_done(); });
    };
    while (!all_done()) {
        if (Clock::now() > patience_ends) {
            for (const auto& client : clients) client->disconnect();
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

Result<std::vector<TenantShare>> read_tenants(const std::string& path) {
    std::ifstream file(path);
    if (!file) return fail(ErrorKind::not_found, "can't read the list of tenants", path);
    std::vector<TenantShare> tenants;
    std::string line;
    while (std::getline(file, line)) {
        std::istringstream words(line.substr(0, line.find('#')));
        TenantShare tenant;
        if (!(words >> tenant.name)) continue;
        if (words >> std::ws; !words.eof() && !(words >> tenant.clients)) {
            return fail(ErrorKind::invalid, "bad line in the list of tenants", path + ": " + line);
        }
        tenants.push_back(tenant);
    }
    if (tenants.empty()) return fail(ErrorKind::invalid, "the list of tenants is empty", path);
    return tenants;
}

Result<bool> run_traffic(const RunOptions& options) {
    if (options.clients + options.switching_clients > kClientsMax) return fail(ErrorKind::limit, "too many clients");
    if (options.switching_clients > 0 && options.switching_dsn.empty()) {
        return fail(ErrorKind::invalid, "clients that switch tenants need --switching-dsn");
    }
    std::vector<std::string> names;
    for (const TenantShare& tenant : options.tenants) names.push_back(tenant.name);

    // Blocked before the threads start: they inherit it, and the signals arrive at the descriptor alone.
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&wanted, signal);
    pthread_sigmask(SIG_BLOCK, &wanted, nullptr);
    const int signals = ::signalfd(-1, &wanted, SFD_CLOEXEC);
    if (signals < 0) return fail(ErrorKind::internal, "no signalfd");

    RunState state;
    Control control(state, signals);
    auto clients = make_clients(options, names, state);
    std::vector<std::thread> threads;
    for (const auto& client : clients) threads.emplace_back(&Client::run, client.get());
    std::optional<Clock::time_point> deadline;
    if (options.seconds > 0) {
        deadline = Clock::now() + std::chrono::microseconds(static_cast<std::int64_t>(options.seconds * 1e6));
    }
    control.until(deadline);
    end_clients(clients, threads, state);
    ::close(signals);

    RunResult result;
    result.history.tenants = names;
    for (const auto& client : clients) {
        result.history.records.insert(result.history.records.end(), client->records().begin(), client->records().end());
    }
    result.phases = control.phases();
    result.windows = control.windows();
    result.focus = options.focus;
    result.clients = clients.size();
    PP_TRY(write_report(options, boost::json::serialize(report_of(result, state)), result.history));
    return state.failed == 0 && state.wrong_tenant == 0 && state.stale_reads == 0 && state.wrong_answers == 0;
}

}  // namespace pgporter::traffic
