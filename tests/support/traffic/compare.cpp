#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <iostream>
#include <string_view>
#include <unordered_map>

#include "tests/support/traffic/check.hpp"
#include "tests/support/traffic/database.hpp"

namespace pgporter::traffic {

namespace {

struct Table {
    const char* name;
    const char* key;  // an expression that is text
};
constexpr Table kTables[] = {{"companies", "id::text"},
                             {"users", "id::text"},
                             {"leads", "id::text"},
                             {"orders", "id::text"},
                             {"order_items", "order_id || '/' || line"},
                             {"deleted_items", "order_id || '/' || line"},
                             {"ledger", "client_id || '/' || seq"}};

// A row's last change and a fingerprint of all its columns.
struct Row {
    std::int64_t updated_us = 0;
    std::string fingerprint;
};
using RowsByKey = std::unordered_map<std::string, Row>;

struct Difference {
    std::uint64_t same = 0;           // not touched since the cutover, and equal
    std::uint64_t changed_since = 0;  // changed on the target after the source stood still
    std::uint64_t new_since = 0;
    std::uint64_t deleted_since = 0;
    std::uint64_t missing = 0;    // on the source, and neither on the target nor deleted there
    std::uint64_t different = 0;  // the same time of change, other columns; or older than the source's
    std::uint64_t duplicates = 0;
};

Result<RowsByKey> read_table(Database& database, const Table& table, std::uint64_t& duplicates) {
    auto lines = database.copy_out(std::string("SELECT ") + table.key +
                                   ", (extract(epoch FROM updated_at) * 1000000)::bigint, md5(t::text) FROM " + table.name + " t");
    if (!lines) return lines.error();
    RowsByKey rows;
    rows.reserve(lines->size());
    for (const std::string& line : *lines) {
        const auto first = line.find('\t');
        const auto second = line.find('\t', first + 1);
        Row row;
        std::from_chars(line.data() + first + 1, line.data() + second, row.updated_us);
        row.fingerprint = line.substr(second + 1);
        if (!rows.emplace(line.substr(0, first), std::move(row)).second) ++duplicates;
    }
    return rows;
}

Result<Database> enter(const std::string& dsn, const std::string& tenant) {
    auto database = Database::connect(dsn_for(dsn, tenant));
    if (!database) return database;
    // Times and numbers must read the same on both sides, whatever the servers' settings.
    auto set = database->simple("SET search_path TO " + quote_identifier(tenant) +
                                "; SET TimeZone TO 'UTC'; SET DateStyle TO 'ISO'; SET extra_float_digits TO 1;"
                                " BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    if (!set) return set.error();
    return database;
}

Difference compare_rows(const RowsByKey& source, const RowsByKey& target, const RowsByKey& deleted) {
    Difference difference;
    for (const auto& [key, row] : source) {
        const auto moved = target.find(key);
        if (moved == target.end()) {
            ++(deleted.contains(key) ? difference.deleted_since : difference.missing);
        } else if (moved->second.fingerprint == row.fingerprint) {
            ++difference.same;
        } else {
            ++(moved->second.updated_us > row.updated_us ? difference.changed_since : difference.different);
        }
    }
    for (const auto& [key, row] : target) difference.new_since += source.contains(key) ? 0 : 1;
    return difference;
}

boost::json::object to_json(const Difference& difference) {
    return {{"same", difference.same},
            {"changed_since", difference.changed_since},
            {"new_since", difference.new_since},
            {"deleted_since", difference.deleted_since},
            {"missing", difference.missing},
            {"different", difference.different},
            {"duplicates", difference.duplicates}};
}

}  // namespace

Result<bool> compare_tenant(const CompareOptions& options) {
    auto source = enter(options.source_dsn, options.tenant);
    if (!source) return source.error();
    auto target = enter(options.target_dsn, options.tenant);
    if (!target) return target.error();
    boost::json::object tables;
    std::uint64_t same = 0;
    std::uint64_t bad = 0;
    std::uint64_t ignored = 0;
    auto deleted = read_table(*target, kTables[5], ignored);
    if (!deleted) return deleted.error();
    for (const Table& table : kTables) {
        std::uint64_t duplicates = 0;
        auto before = read_table(*source, table, duplicates);
        if (!before) return before.error();
        auto after = read_table(*target, table, duplicates);
        if (!after) return after.error();
        const bool may_be_deleted = std::string_view(table.name) == "order_items";
        Difference difference = compare_rows(*before, *after, may_be_deleted ? *deleted : RowsByKey{});
        difference.duplicates = duplicates;
        same += difference.same;
        bad += difference.missing + difference.different + difference.duplicates;
        tables[table.name] = to_json(difference);
    }
    boost::json::object out;
    out["ok"] = bad == 0 && same > 0;
    out["same"] = same;
    out["bad"] = bad;
    out["tables"] = std::move(tables);
    std::cout << boost::json::serialize(out) << std::endl;
    return bad == 0 && same > 0;
}

}  // namespace pgporter::traffic
