#include "tests/support/traffic/client.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace pgporter::traffic {

namespace {

std::int64_t now_us() {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

void ErrorCounts::add(const std::string& tenant, const std::string& tried, const Error& error) {
    const std::lock_guard lock(mutex_);
    ++counts_[{tenant, tried, error.sqlstate, error.message}];
}

std::map<ErrorCounts::Key, std::uint64_t> ErrorCounts::all() const {
    const std::lock_guard lock(mutex_);
    return counts_;
}

Client::Client(ClientOptions options, const std::vector<std::string>& tenant_names, RunState& state)
    : options_(std::move(options)), state_(state), workload_(options_.id, options_.seed) {
    for (const std::uint32_t tenant : options_.tenants) views_[tenant].name = tenant_names.at(tenant);
    records_.reserve(4096);
}

void Client::note_error(const std::string& tenant, const std::string& tried, const Error& error) {
    ++state_.failed;
    state_.errors.add(tenant, tried, error);
}

void Client::disconnect() {
    const int socket = socket_.load();
    if (socket >= 0) ::shutdown(socket, SHUT_RDWR);
}

bool Client::connect() {
    auto database = Database::connect(options_.dsn, &socket_);
    if (!database) {
        note_error(views_.begin()->second.name, "connect", database.error());
        ++failed_logins_;
        const auto pause = std::chrono::milliseconds(std::min(1000U, 50U * failed_logins_));
        std::this_thread::sleep_for(pause);
        return false;
    }
    failed_logins_ = 0;
    database_ = std::make_unique<Database>(std::move(*database));
    return true;
}

// Names the tenant as applications do: by SET, or by set_config with a parameter.
Result<void> Client::enter_tenant(TenantView& tenant) {
    if (is_switching()) {
        auto set = workload_.pick(0, 1) == 0
                       ? database_->simple("SET search_path TO " + quote_identifier(tenant.name) + ", public")
                       : database_->extended("SELECT set_config('search_path', $1, false)", {quote_identifier(tenant.name) + ", public"});
        if (!set) return set.error();
    }
    if (tenant.companies == 0) return workload_.look_around(*database_, tenant);
    return {};
}

void Client::one_transaction() {
    const auto at = static_cast<std::size_t>(workload_.pick(0, static_cast<std::int64_t>(options_.tenants.size()) - 1));
    TenantView& tenant = views_[options_.tenants[at]];
    Record record;
    record.tenant = options_.tenants[at];
    record.phase = state_.phase;
    record.client = options_.id;
    record.kind = workload_.choose();
    record.start_us = now_us();
    const auto started = std::chrono::steady_clock::now();
    Attempt attempt;
    std::string tried = to_text(record.kind);
    if (auto entered = enter_tenant(tenant); !entered) {
        attempt.outcome = Outcome::failed;
        attempt.error = entered.error();
        record.kind = Kind::read_simple;
        tried = "enter";
    } else {
        attempt = workload_.run(*database_, tenant, record.kind);
    }
    record.latency_us =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - started).count();
    record.seq = attempt.seq;
    record.outcome = attempt.outcome;
    records_.push_back(record);
    ++state_.transactions;
    if (attempt.error) note_error(tenant.name, tried, *attempt.error);
    if (attempt.outcome == Outcome::unknown) ++state_.unknown;
    for (const Violation violation : attempt.violations) {
        if (violation == Violation::wrong_tenant) ++state_.wrong_tenant;
        if (violation == Violation::stale_read) ++state_.stale_reads;
        if (violation == Violation::wrong_answer) ++state_.wrong_answers;
    }
}

void Client::think() {
    if (options_.rate <= 0) return;
    // Between half and one and a half of the mean, so that clients don't march in step.
    const auto mean_us = static_cast<std::int64_t>(1e6 / options_.rate);
    const auto until = std::chrono::steady_clock::now() +
                       std::chrono::microseconds(workload_.pick(mean_us / 2, mean_us + mean_us / 2));
    constexpr auto kSlice = std::chrono::milliseconds(100);
    while (!state_.stop) {
        const auto left = until - std::chrono::steady_clock::now();
        if (left <= left.zero()) return;
        std::this_thread::sleep_for(std::min<std::chrono::steady_clock::duration>(left, kSlice));
    }
}

void Client::run() {
    bool was_connected = false;
    while (!state_.stop) {
        if (!database_) {
            if (was_connected) ++state_.reconnects;
            if (!connect()) continue;
            was_connected = true;
        }
        one_transaction();
        if (!database_->is_alive()) database_.reset();
        think();
    }
    database_.reset();
    done_ = true;
}

}  // namespace pgporter::traffic
