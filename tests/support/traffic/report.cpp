#include "tests/support/traffic/report.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <functional>
#include <map>

namespace pgporter::traffic {

namespace {

namespace json = boost::json;

double milliseconds(std::int64_t us) { return static_cast<double>(us) / 1000.0; }

// The value that a share of the sorted values doesn't exceed.
std::int64_t quantile(const std::vector<std::int64_t>& sorted, double share) {
    if (sorted.empty()) return 0;
    const auto at = static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5);
    return sorted[std::min(at, sorted.size() - 1)];
}

json::object latencies_of(std::vector<std::int64_t> us, double seconds) {
    std::sort(us.begin(), us.end());
    json::object out;
    out["transactions"] = us.size();
    if (seconds > 0) out["per_second"] = static_cast<double>(static_cast<std::int64_t>(static_cast<double>(us.size()) / seconds));
    out["p50_ms"] = milliseconds(quantile(us, 0.50));
    out["p99_ms"] = milliseconds(quantile(us, 0.99));
    out["max_ms"] = milliseconds(us.empty() ? 0 : us.back());
    return out;
}

using Wanted = std::function<bool(const Record&)>;

json::object phases_of(const RunResult& result, const Wanted& wanted) {
    std::vector<std::vector<std::int64_t>> by_phase(result.phases.size());
    for (const Record& record : result.history.records) {
        if (wanted(record)) by_phase.at(record.phase).push_back(record.latency_us);
    }
    json::object out;
    for (std::size_t i = 0; i < by_phase.size(); ++i) {
        const double seconds = static_cast<double>(result.phases[i].end_us - result.phases[i].start_us) / 1e6;
        out[result.phases[i].name] = latencies_of(std::move(by_phase[i]), seconds);
    }
    return out;
}

// The longest transaction of each client among those that touch the window.
json::object window_of(const RunResult& result, const Window& window, const Wanted& wanted) {
    std::map<std::int64_t, std::int64_t> longest;
    for (const Record& record : result.history.records) {
        const std::int64_t end_us = record.start_us + record.latency_us;
        if (!wanted(record) || end_us < window.from_us || record.start_us > window.to_us) continue;
        std::int64_t& us = longest[record.client];
        us = std::max(us, record.latency_us);
    }
    std::vector<std::int64_t> sorted;
    for (const auto& [client, us] : longest) sorted.push_back(us);
    std::sort(sorted.begin(), sorted.end());
    json::object out;
    out["clients"] = sorted.size();
    out["p50_ms"] = milliseconds(quantile(sorted, 0.5));
    out["max_ms"] = milliseconds(sorted.empty() ? 0 : sorted.back());
    return out;
}

json::object tenants_of(const RunResult& result) {
    struct Sum {
        std::uint64_t transactions = 0, acknowledged_writes = 0, failed = 0, unknown = 0;
        std::int64_t longest_us = 0;
    };
    std::vector<Sum> sums(result.history.tenants.size());
    for (const Record& record : result.history.records) {
        Sum& sum = sums[record.tenant];
        ++sum.transactions;
        if (record.seq > 0 && record.outcome == Outcome::acknowledged) ++sum.acknowledged_writes;
        if (record.outcome == Outcome::failed) ++sum.failed;
        if (record.outcome == Outcome::unknown) ++sum.unknown;
        sum.longest_us = std::max(sum.longest_us, record.latency_us);
    }
    json::object out;
    for (std::size_t i = 0; i < sums.size(); ++i) {
        json::object tenant;
        tenant["transactions"] = sums[i].transactions;
        tenant["acknowledged_writes"] = sums[i].acknowledged_writes;
        tenant["failed"] = sums[i].failed;
        tenant["unknown"] = sums[i].unknown;
        tenant["longest_ms"] = milliseconds(sums[i].longest_us);
        const auto index = static_cast<std::uint32_t>(i);
        tenant["phases"] = phases_of(result, [index](const Record& record) { return record.tenant == index; });
        out[result.history.tenants[i]] = std::move(tenant);
    }
    return out;
}

json::array errors_of(const RunState& state) {
    json::array out;
    for (const auto& [key, count] : state.errors.all()) {
        const auto& [tenant, tried, sqlstate, message] = key;
        out.push_back(json::object{
            {"tenant", tenant}, {"tried", tried}, {"sqlstate", sqlstate}, {"message", message}, {"count", count}});
    }
    return out;
}

}  // namespace

json::object report_of(const RunResult& result, const RunState& state) {
    const auto& names = result.history.tenants;
    const Wanted all = [](const Record&) { return true; };
    const Wanted focus = [&](const Record& record) { return names[record.tenant] == result.focus; };
    const Wanted others = [&](const Record& record) { return names[record.tenant] != result.focus; };
    std::int64_t longest_us = 0;
    std::uint64_t acknowledged_writes = 0;
    for (const Record& record : result.history.records) {
        longest_us = std::max(longest_us, record.latency_us);
        if (record.seq > 0 && record.outcome == Outcome::acknowledged) ++acknowledged_writes;
    }
    json::object out;
    out["clients"] = result.clients;
    out["transactions"] = result.history.records.size();
    out["acknowledged_writes"] = acknowledged_writes;
    out["failed_queries"] = state.failed.load();
    out["unknown"] = state.unknown.load();
    out["reconnects"] = state.reconnects.load();
    out["wrong_tenant"] = state.wrong_tenant.load();
    out["stale_reads"] = state.stale_reads.load();
    out["wrong_answers"] = state.wrong_answers.load();
    out["longest_ms"] = milliseconds(longest_us);
    out["errors"] = errors_of(state);
    out["phases"] = phases_of(result, all);
    if (!result.focus.empty()) {
        out["focus"] = phases_of(result, focus);
        out["others"] = phases_of(result, others);
    }
    json::object windows;
    for (const Window& window : result.windows) {
        windows[window.name] = json::object{{"focus", window_of(result, window, focus)}, {"others", window_of(result, window, others)}};
    }
    out["windows"] = std::move(windows);
    out["tenants"] = tenants_of(result);
    return out;
}

}  // namespace pgporter::traffic
