// The load generator of the benchmarks: many clients on one thread, with TLS and SCRAM, whose own cost hardly counts beside what it measures.
//
// With --logins it logs in and leaves for some seconds and prints what it got done. Otherwise it brings all clients up, says so, and for each line
// "run SECONDS INTERVAL_MS" lets each of them send its query once an interval (0: again and again); latencies count from the moment a query was due.
// One line of JSON for each of these. At the end of its standard input it leaves.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <poll.h>
#include <queue>
#include <string>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <vector>

#include "benchmarks/load/client.hpp"

namespace {

using namespace load;

std::int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::int64_t ns_of(double seconds) { return static_cast<std::int64_t>(seconds * 1e9); }

class Load {
  public:
    explicit Load(Surroundings& around) : around_(around) {
        for (int number = 0; number < around.options.clients; ++number) clients_.push_back(std::make_unique<Client>(around, number));
    }

    // Whether all came up.
    bool bring_up();
    void log_in_and_leave(double seconds);
    void run(double seconds, double interval_ms);

  private:
    struct Due {
        std::int64_t at;
        Client* client;
        bool operator>(const Due& other) const { return at > other.at; }
    };

    template <typename Handle> void turn(std::int64_t until, Handle handle);
    void begin_run(std::int64_t start, std::int64_t interval);
    void start_due(std::int64_t now);
    void finish(Client& client, std::int64_t now, std::int64_t interval, std::int64_t end);
    void say_run(double seconds, int unanswered) const;

    Surroundings& around_;
    std::vector<std::unique_ptr<Client>> clients_;
    std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
    std::vector<float> latencies_us_;
    int late_ = 0;
};

// Waits for events until then, and hands each over.
template <typename Handle> void Load::turn(std::int64_t until, Handle handle) {
    epoll_event events[256];
    const std::int64_t left = std::max<std::int64_t>(0, until - now_ns());
    const timespec wait{left / 1'000'000'000, left % 1'000'000'000};
    const int count = ::epoll_pwait2(around_.epoll, events, 256, &wait, nullptr);
    for (int at = 0; at < count; ++at) {
        Client& client = *static_cast<Client*>(events[at].data.ptr);
        client.on_ready(events[at].events);
        handle(client);
    }
}

bool Load::bring_up() {
    const std::int64_t began = now_ns();
    std::size_t opened = 0, up = 0;
    int opening = 0;
    while (up < clients_.size() && around_.first_error.empty() && now_ns() - began < ns_of(300)) {
        while (opened < clients_.size() && opening < around_.options.opening_max) {
            clients_[opened++]->open();
            ++opening;
        }
        turn(now_ns() + ns_of(1), [&](Client& client) {
            if (client.stage() != Stage::idle || client.answered != 0) return;
            client.answered = 1;  // it is counted
            ++up;
            --opening;
        });
    }
    std::printf("{\"up\": %zu, \"seconds\": %.3f, \"error\": \"%s\"}\n", up, static_cast<double>(now_ns() - began) / 1e9, around_.first_error.c_str());
    std::fflush(stdout);
    return up == clients_.size();
}

void Load::log_in_and_leave(double seconds) {
    const std::int64_t began = now_ns(), end = began + ns_of(seconds);
    long logins = 0;
    for (auto& client : clients_) client->open();
    while (now_ns() < end && around_.first_error.empty()) {
        turn(end, [&](Client& client) {
            if (client.stage() != Stage::idle) return;
            ++logins;
            client.leave();
            client.open();
        });
    }
    std::printf("{\"logins\": %ld, \"seconds\": %.3f, \"error\": \"%s\"}\n", logins, static_cast<double>(now_ns() - began) / 1e9,
                around_.first_error.c_str());
    std::fflush(stdout);
}

void Load::begin_run(std::int64_t start, std::int64_t interval) {
    latencies_us_.clear();
    late_ = 0;
    due_ = {};
    const auto count = static_cast<std::int64_t>(clients_.size());
    for (auto& client : clients_) {
        client->answered = 0;
        client->is_waiting = false;
        client->due_ns = start + interval * client->number() / count;
        due_.push({client->due_ns, client.get()});
    }
}

void Load::start_due(std::int64_t now) {
    while (!due_.empty() && due_.top().at <= now) {
        Client& client = *due_.top().client;
        due_.pop();
        if (client.stage() != Stage::idle) continue;
        client.is_waiting = true;
        client.send_query();
    }
}

void Load::finish(Client& client, std::int64_t now, std::int64_t interval, std::int64_t end) {
    latencies_us_.push_back(static_cast<float>(now - client.due_ns) / 1000.0F);
    ++client.answered;
    if (interval == 0) {
        client.due_ns = now;
        if (now < end) client.send_query();
        return;
    }
    client.due_ns += interval;
    if (client.due_ns < now) ++late_;  // it goes at once, and its latency counts from when it was due
    if (client.due_ns < end) due_.push({client.due_ns, &client});
}

void Load::run(double seconds, double interval_ms) {
    const std::int64_t start = now_ns(), interval = ns_of(interval_ms / 1000), end = start + ns_of(seconds), grace = end + ns_of(10);
    begin_run(start, interval);
    auto busy = [&] { return std::count_if(clients_.begin(), clients_.end(), [](const auto& client) { return client->stage() == Stage::busy; }); };
    // Whoever was asked is waited for.
    while (around_.first_error.empty()) {
        const std::int64_t now = now_ns();
        if (now < end) start_due(now);
        else if (now > grace || busy() == 0) break;
        std::int64_t until = now < end ? end : now + ns_of(0.01);
        if (now < end && !due_.empty()) until = std::min(until, due_.top().at);
        turn(until, [&](Client& client) {
            if (client.stage() == Stage::idle && client.is_waiting) finish(client, now_ns(), interval, end);
            client.is_waiting = client.stage() == Stage::busy;
        });
    }
    say_run(static_cast<double>(now_ns() - start) / 1e9, static_cast<int>(busy()));
}

void Load::say_run(double seconds, int unanswered) const {
    auto sorted = latencies_us_;
    std::sort(sorted.begin(), sorted.end());
    auto at = [&](double share) {
        return sorted.empty() ? 0.0 : static_cast<double>(sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(share * static_cast<double>(sorted.size())))]) / 1000;
    };
    const auto [least, most] = std::minmax_element(clients_.begin(), clients_.end(), [](const auto& a, const auto& b) { return a->answered < b->answered; });
    std::printf("{\"transactions\": %zu, \"seconds\": %.3f, \"p50_ms\": %.4f, \"p95_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.3f, \"late\": %d, "
                "\"unanswered\": %d, \"fewest_of_a_client\": %d, \"most_of_a_client\": %d, \"error\": \"%s\"}\n",
                sorted.size(), seconds, at(0.5), at(0.95), at(0.99), at(1.0), late_, unanswered, (*least)->answered, (*most)->answered,
                around_.first_error.c_str());
    std::fflush(stdout);
}

SSL_CTX* tls_context() {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);  // loopback, and a certificate of a minute ago
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return context;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = options_of(argc, argv);
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    std::signal(SIGPIPE, SIG_IGN);
    ScramKeys keys(options.password);
    Surroundings around{options, keys, options.tls ? tls_context() : nullptr, ::epoll_create1(EPOLL_CLOEXEC), {}, {}};
    const auto size = static_cast<std::uint32_t>(options.sql.size() + 5);
    around.query = {'Q', static_cast<char>(size >> 24), static_cast<char>(size >> 16), static_cast<char>(size >> 8), static_cast<char>(size)};
    around.query += options.sql + '\0';
    Load all(around);
    if (options.login_seconds > 0) {
        all.log_in_and_leave(options.login_seconds);
    } else if (all.bring_up()) {
        double seconds = 0, interval_ms = 0;
        while (std::scanf(" run %lf %lf", &seconds, &interval_ms) == 2) all.run(seconds, interval_ms);
    }
    return around.first_error.empty() ? 0 : 1;
}
