#include "admin/mover/fingerprint.hpp"

#include <set>
#include <string_view>

namespace pgporter {
namespace {

// Types whose equality, and so whose hash, is that of the bytes: everything else is hashed as the text that it is shown as
// (1.0 isn't 1.00, and two collations may call different texts equal).
bool is_hashed_as_it_is(const std::string& type) {
    static const std::set<std::string_view> types{"smallint", "integer", "bigint", "oid", "uuid", "boolean", "date", "bytea",
                                                  "timestamp without time zone", "timestamp with time zone"};
    return types.contains(type);
}

// Columns by name: the order of columns may differ between the sides (a partition that was attached, for example). Each
// as a value of its own: a whole row's text costs five times as much.
std::string row_record(const SourceTable& table) {
    std::string columns;
    const auto add = [&](const std::string& value) { columns += (columns.empty() ? "" : ", ") + value; };
    const auto as_shown = [](const std::string& column) { return "ROW(" + column + ")::text COLLATE \"C\""; };
    for (const auto& column : table.columns) {
        const auto name = "t." + quote_ident(column.name);
        const bool is_text = column.type == "text" || column.type == "character varying";
        add(is_text ? name + "::text COLLATE \"C\"" : is_hashed_as_it_is(column.type) ? name : as_shown(name));
    }
    for (const auto& name : table.generated) add(as_shown("t." + quote_ident(name)));
    return "ROW(" + columns + ")";
}

// The sum of bigints is exact: PostgreSQL adds them up as a numeric.
std::string sums(const SourceTable& table) {
    const auto record = row_record(table);
    return "count(*), coalesce(sum(hash_record_extended(" + record + ", 0)), 0), coalesce(sum(hash_record_extended(" + record + ", 1)), 0)";
}

std::string where(const SourceTable& table, Side side) {
    return side == Side::source ? table.where() : table.target_where();
}

std::string keyed_query(const SourceTable& table, const std::vector<std::vector<std::string>>& columns, Side side) {
    return "SELECT " + sums(table) + " FROM " + rows_with_keys(table, columns) + where(table, side);
}

// Collects parts of one query until it is full.
class QueryList {
  public:
    explicit QueryList(std::size_t keys_max) : keys_max_(keys_max) {}

    void add(const SourceTable& table, const std::string& source_sql, const std::string& target_sql, bool whole, std::size_t keys) {
        if (queries_.empty() || keys_ + keys > keys_max_) {
            queries_.emplace_back();
            keys_ = 0;
        }
        auto& query = queries_.back();
        // UNION ALL keeps no order by itself: the number of the part does.
        const auto head = (query.tables.empty() ? "(SELECT " : " UNION ALL (SELECT ") + std::to_string(query.tables.size()) + " AS part, p.* FROM (";
        query.source_sql += head + source_sql + ") AS p)";
        query.target_sql += head + target_sql + ") AS p)";
        query.tables.push_back(&table);
        query.whole.push_back(whole);
        keys_ += keys;
    }
    std::vector<ChangeQuery> take() {
        for (auto& query : queries_) {
            for (auto* sql : {&query.source_sql, &query.target_sql}) *sql = "SELECT * FROM (" + *sql + ") AS q ORDER BY part";
        }
        return std::move(queries_);
    }

  private:
    std::size_t keys_max_;
    std::size_t keys_ = 0;
    std::vector<ChangeQuery> queries_;
};

}  // namespace

std::string describe(const std::vector<Difference>& differences) {
    constexpr std::size_t named_max = 10;
    std::string text;
    for (std::size_t i = 0; i < differences.size() && i < named_max; ++i) {
        const auto& difference = differences[i];
        text += (text.empty() ? "" : "; ") + difference.table->plain_name() + ": ";
        text += difference.source_rows == difference.target_rows
                    ? "contents of " + std::to_string(difference.source_rows) + " compared rows differ"
                    : std::to_string(difference.source_rows) + " rows on the source, " +
                          std::to_string(difference.target_rows) + " on the target";
    }
    if (differences.size() > named_max)
        text += "; and " + std::to_string(differences.size() - named_max) + " more tables";
    return text;
}

std::string rows_with_keys(const SourceTable& table, const std::vector<std::vector<std::string>>& columns) {
    std::string arrays;
    std::string names;
    std::string condition;
    for (std::size_t i = 0; i < table.key.size(); ++i) {
        const auto& column = table.columns[table.key[i]];
        const auto name = "k" + std::to_string(i);
        arrays += (i == 0 ? "" : ", ") + quote_literal(to_array_literal(columns[i])) + "::" + column.type + "[]";
        names += (i == 0 ? "" : ", ") + name;
        condition += (i == 0 ? "t." : " AND t.") + quote_ident(column.name) + " = k." + name;
    }
    return "unnest(" + arrays + ") AS k (" + names + ") JOIN ONLY " + table.qualified_name() + " AS t ON " + condition;
}

std::string fingerprint_query(const SourceTable& table, Side side) {
    return "SELECT " + sums(table) + " FROM ONLY " + table.qualified_name() + " AS t" + where(table, side);
}

std::vector<ChangeQuery> change_queries(const ChangedRows& changed, std::size_t keys_per_query_max) {
    QueryList list(keys_per_query_max);
    for (const auto& [table, changes] : changed.tables()) {
        if (changes.whole) {
            list.add(*table, fingerprint_query(*table, Side::source), fingerprint_query(*table, Side::target), true, keys_per_query_max / 8 + 1);
            continue;
        }
        std::vector<std::vector<std::string>> columns(table->key.size());
        std::size_t count = 0;
        const auto flush = [&] {
            if (count > 0) list.add(*table, keyed_query(*table, columns, Side::source), keyed_query(*table, columns, Side::target), false, count);
            for (auto& column : columns) column.clear();
            count = 0;
        };
        for (const auto& key : changes.keys) {
            auto values = decode_key(key);
            for (std::size_t i = 0; i < columns.size(); ++i) columns[i].push_back(std::move(values.at(i)));
            if (++count >= keys_per_query_max) flush();
        }
        flush();
    }
    return list.take();
}

}  // namespace pgporter
