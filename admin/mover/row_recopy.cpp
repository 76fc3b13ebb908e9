#include "admin/mover/row_recopy.hpp"

#include "admin/mover/fingerprint.hpp"

namespace pgporter {
namespace {

constexpr std::size_t keys_per_query_max = 1'000;

Error unfit(const SourceTable& table) {
    return fail(ErrorKind::internal, "a row of " + table.plain_name() + " doesn't fit the table's definition");
}

Result<void> remove_row(const SourceTable& table, const std::string& key, Applier& applier) {
    const auto values = decode_key(key);
    pgoutput::Delete removal{table.oid, pgoutput::OldRow::key, pgoutput::Tuple(table.columns.size())};
    for (std::size_t i = 0; i < table.key.size(); ++i) {
        removal.old_row[table.key[i]] = {pgoutput::ValueKind::text, values.at(i)};
    }
    const auto statement = delete_statement(table, removal);
    if (!statement) return unfit(table);
    return applier.change(table, *statement, Rows::one_or_none);
}

Result<void> store_rows(const SourceTable& table, const QueryRows& rows, Applier& applier) {
    for (int row = 0; row < rows.count(); ++row) {
        pgoutput::Insert insert{table.oid, pgoutput::Tuple(table.columns.size())};
        for (std::size_t i = 0; i < table.columns.size(); ++i) {
            const auto column = static_cast<int>(i);
            if (!rows.is_null(row, column)) insert.row[i] = {pgoutput::ValueKind::text, rows.text(row, column)};
        }
        const auto statement = insert_statement(table, insert);
        if (!statement) return unfit(table);
        PP_TRY(applier.change(table, *statement));
    }
    return {};
}

Result<void> copy_table(ServerSession& source, const SourceTable& table, const std::unordered_set<std::string>& keys, Applier& applier) {
    // All go before any comes: one's unique value may be another's of before.
    for (const auto& key : keys) PP_TRY(remove_row(table, key, applier));
    std::string list;
    for (const auto& column : table.columns) list += (list.empty() ? "t." : ", t.") + quote_ident(column.name);
    std::vector<std::vector<std::string>> columns(table.key.size());
    const auto fetch = [&]() -> Result<void> {
        auto rows = source.exec("SELECT " + list + " FROM " + rows_with_keys(table, columns) + " WHERE " + table.row_filter);
        for (auto& column : columns) column.clear();
        if (!rows) return rows.error();
        return store_rows(table, *rows, applier);
    };
    for (const auto& key : keys) {
        auto values = decode_key(key);
        for (std::size_t i = 0; i < columns.size(); ++i) columns[i].push_back(std::move(values.at(i)));
        if (columns.front().size() >= keys_per_query_max) PP_TRY(fetch());
    }
    return columns.front().empty() ? Result<void>{} : fetch();
}

}  // namespace

Result<void> copy_rows_again(ServerSession& source, Follower& follower) {
    for (const auto& [table, keys] : follower.missing()) {
        if (!keys.empty()) PP_TRY(copy_table(source, *table, keys, follower.applier()));
    }
    return {};
}

}  // namespace pgporter
