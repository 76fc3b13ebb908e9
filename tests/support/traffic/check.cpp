#include "tests/support/traffic/check.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <iostream>
#include <unordered_map>
#include <utility>

#include "tests/support/traffic/database.hpp"

namespace pgporter::traffic {

namespace {

using Key = std::pair<std::int64_t, std::int64_t>;  // client, seq

Result<std::vector<LedgerEntry>> read_ledger(Database& database, std::int64_t first_client, std::int64_t last_client) {
    auto rows = database.extended(
        "SELECT client_id, seq, entry_id, tenant FROM ledger WHERE client_id BETWEEN $1 AND $2 ORDER BY client_id, seq, entry_id",
        {std::to_string(first_client), std::to_string(last_client)});
    if (!rows) return rows.error();
    std::vector<LedgerEntry> entries;
    entries.reserve(static_cast<std::size_t>(rows->count()));
    for (int row = 0; row < rows->count(); ++row) {
        entries.push_back({rows->number(row, 0), rows->number(row, 1), rows->number(row, 2), std::string(rows->text(row, 3))});
    }
    return entries;
}

// Facts that every transaction keeps, whoever ran it: what a half-applied or twice-applied one breaks.
Result<boost::json::object> inconsistencies(Database& database, const std::string& tenant) {
    std::string foreign_rows = "SELECT 0";
    for (const char* table : {"companies", "users", "leads", "orders", "order_items", "deleted_items", "ledger"}) {
        foreign_rows += std::string(" + (SELECT count(*) FROM ") + table + " WHERE tenant <> " + quote_literal(tenant) + ")";
    }
    const std::vector<std::pair<std::string, std::string>> questions = {
        {"rows_of_others", foreign_rows},
        {"balances", "SELECT count(*) FROM companies c LEFT JOIN (SELECT company_id, sum(amount) AS amount FROM ledger"
                     " GROUP BY company_id) l ON l.company_id = c.id WHERE c.balance <> coalesce(l.amount, 0)"},
        {"undeleted_items", "SELECT count(*) FROM order_items JOIN deleted_items USING (order_id, line)"},
        {"orphans", "SELECT (SELECT count(*) FROM ledger l WHERE NOT EXISTS (SELECT FROM companies c WHERE c.id = l.company_id))"
                    " + (SELECT count(*) FROM order_items i WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = i.order_id))"}};
    boost::json::object found;
    for (const auto& [name, sql] : questions) {
        auto rows = database.simple(sql);
        if (!rows) return rows.error();
        if (rows->number(0, 0) != 0) found[name] = rows->number(0, 0);
    }
    return found;
}

struct TenantVerdict {
    LedgerVerdict ledger;
    boost::json::object inconsistent;
};

Result<TenantVerdict> check_tenant(const CheckOptions& options, const std::string& tenant, const std::vector<Record>& records) {
    const auto elsewhere = options.dsn_of.find(tenant);
    auto database = Database::connect(dsn_for(elsewhere == options.dsn_of.end() ? options.dsn : elsewhere->second, tenant));
    if (!database) return database.error();
    auto entered = database->simple("SET search_path TO " + quote_identifier(tenant));
    if (!entered) return entered.error();
    const auto [first, last] = std::minmax_element(records.begin(), records.end(),
                                                   [](const Record& a, const Record& b) { return a.client < b.client; });
    auto entries = read_ledger(*database, first->client, last->client);
    if (!entries) return entries.error();
    auto inconsistent = inconsistencies(*database, tenant);
    if (!inconsistent) return inconsistent.error();
    return TenantVerdict{judge(tenant, records, *entries), std::move(*inconsistent)};
}

boost::json::object to_json(const LedgerVerdict& verdict) {
    return {{"confirmed", verdict.confirmed},   {"lost", verdict.lost},
            {"doubled", verdict.doubled},       {"phantom", verdict.phantom},
            {"disordered", verdict.disordered}, {"unknown_present", verdict.unknown_present},
            {"wrong_tenant", verdict.wrong_tenant}};
}

void add(LedgerVerdict& sum, const LedgerVerdict& one) {
    sum.confirmed += one.confirmed;
    sum.lost += one.lost;
    sum.doubled += one.doubled;
    sum.phantom += one.phantom;
    sum.disordered += one.disordered;
    sum.unknown_present += one.unknown_present;
    sum.wrong_tenant += one.wrong_tenant;
}

bool is_clean(const LedgerVerdict& verdict) {
    return verdict.lost + verdict.doubled + verdict.phantom + verdict.disordered + verdict.wrong_tenant == 0;
}

}  // namespace

LedgerVerdict judge(const std::string& tenant, const std::vector<Record>& records, const std::vector<LedgerEntry>& entries) {
    std::map<Key, Outcome> told;
    for (const Record& record : records) {
        if (record.seq > 0) told[{record.client, record.seq}] = record.outcome;
    }
    LedgerVerdict verdict;
    std::map<Key, std::uint64_t> seen;
    std::unordered_map<std::int64_t, std::int64_t> last_entry;
    for (const LedgerEntry& entry : entries) {
        if (entry.tenant != tenant) ++verdict.wrong_tenant;
        if (++seen[{entry.client, entry.seq}] > 1) ++verdict.doubled;
        const auto [last, is_first] = last_entry.try_emplace(entry.client, entry.entry);
        if (!is_first && entry.entry < last->second) ++verdict.disordered;
        last->second = entry.entry;
        const auto known = told.find({entry.client, entry.seq});
        const bool is_refused = known == told.end() || known->second == Outcome::failed || known->second == Outcome::rolled_back;
        if (is_refused) ++verdict.phantom;
    }
    for (const auto& [key, outcome] : told) {
        const bool is_there = seen.contains(key);
        if (outcome == Outcome::acknowledged) ++(is_there ? verdict.confirmed : verdict.lost);
        if (outcome == Outcome::unknown && is_there) ++verdict.unknown_present;
    }
    return verdict;
}

Result<bool> check_history(const CheckOptions& options) {
    auto history = read_history(options.history_file);
    if (!history) return history.error();
    std::vector<std::vector<Record>> by_tenant(history->tenants.size());
    for (const Record& record : history->records) by_tenant[record.tenant].push_back(record);
    LedgerVerdict sum;
    boost::json::object bad;
    for (std::size_t i = 0; i < by_tenant.size(); ++i) {
        const std::string& tenant = history->tenants[i];
        auto verdict = check_tenant(options, tenant, by_tenant[i]);
        if (!verdict) return verdict.error();
        add(sum, verdict->ledger);
        if (is_clean(verdict->ledger) && verdict->inconsistent.empty()) continue;
        auto said = to_json(verdict->ledger);
        said["inconsistent"] = std::move(verdict->inconsistent);
        bad[tenant] = std::move(said);
    }
    const bool ok = bad.empty();
    auto out = to_json(sum);
    out["ok"] = ok;
    out["tenants"] = by_tenant.size();
    out["bad"] = std::move(bad);
    std::cout << boost::json::serialize(out) << std::endl;
    return ok;
}

}  // namespace pgporter::traffic
