#include "admin/mover/apply_batch.hpp"

#include <algorithm>

#include "admin/mover/apply_statements.hpp"
#include "admin/mover/changed_rows.hpp"

namespace pgporter {
namespace {

using pgoutput::OldRow;
using pgoutput::Tuple;
using pgoutput::ValueKind;

constexpr std::uint64_t small_table_rows = 10'000;
constexpr std::size_t values_max = 30'000;  // of one statement; the protocol has 65,535

void add_values(BatchRow& row, const Tuple& tuple, const std::vector<std::size_t>& columns) {
    for (const auto index : columns) {
        if (tuple[index].kind == ValueKind::null) {
            row.values.emplace_back(std::nullopt);
        } else {
            row.values.emplace_back(tuple[index].bytes);
        }
    }
}

std::optional<BatchRow> row_of_insert(const SourceTable& table, const pgoutput::Insert& insert) {
    if (table.columns.empty() || !is_whole_row(table, insert.row)) return std::nullopt;
    BatchRow row;
    row.form.kind = BatchKind::insert;
    for (std::size_t i = 0; i < table.columns.size(); ++i) row.form.columns.push_back(i);
    add_values(row, insert.row, row.form.columns);
    return row;
}

std::optional<BatchRow> row_of_update(const SourceTable& table, const pgoutput::Update& update) {
    if (update.old_kind != OldRow::none || table.other_unique || !is_applicable(table, update) || must_replace(table, update)) return std::nullopt;
    BatchRow row;
    row.form.kind = BatchKind::update;
    row.form.columns = table.key;
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        const auto& column = table.columns[i];
        if (!column.key && !column.identity_always && update.row[i].kind != ValueKind::unchanged_toast) row.form.columns.push_back(i);
    }
    if (row.form.columns.size() == table.key.size()) return std::nullopt;
    add_values(row, update.row, row.form.columns);
    row.key = encode_key(table, update.row);
    return row;
}

std::optional<BatchRow> row_of_delete(const SourceTable& table, const pgoutput::Delete& deletion) {
    if (deletion.old_kind != OldRow::key || !key_is_whole(table, deletion.old_row)) return std::nullopt;
    BatchRow row;
    row.form.kind = BatchKind::removal;
    row.form.columns = table.key;
    add_values(row, deletion.old_row, row.form.columns);
    return row;
}

// "($1::integer, $2::text), ($3::integer, $4::text)"; in an INSERT the types are the columns' by themselves.
std::string value_list(const SourceTable& table, const BatchForm& form, std::size_t rows) {
    std::string text;
    std::size_t number = 0;
    for (std::size_t row = 0; row < rows; ++row) {
        text += row == 0 ? "(" : ", (";
        for (std::size_t i = 0; i < form.columns.size(); ++i) {
            text += (i == 0 ? "$" : ", $") + std::to_string(++number);
            if (form.kind != BatchKind::insert) text += "::" + table.columns[form.columns[i]].type;
        }
        text += ")";
    }
    return text;
}

std::string insert_rows(const SourceTable& table, const BatchForm& form, std::size_t rows) {
    std::string names;
    for (const auto index : form.columns) names += (names.empty() ? "" : ", ") + quote_ident(table.columns[index].name);
    return "INSERT INTO " + table.qualified_name() + " (" + names + ") OVERRIDING SYSTEM VALUE VALUES " + value_list(table, form, rows);
}

// With one row the value is there, with several it is a column of v.
std::string change_rows(const SourceTable& table, const BatchForm& form, std::size_t rows) {
    const auto value = [&](std::size_t i) { return rows == 1 ? "$" + std::to_string(i + 1) : "v.c" + std::to_string(i); };
    std::string names;
    std::string set;
    std::string condition;
    for (std::size_t i = 0; i < form.columns.size(); ++i) {
        const auto name = quote_ident(table.columns[form.columns[i]].name);
        names += (i == 0 ? "c" : ", c") + std::to_string(i);
        if (i < table.key.size()) {
            condition += (i == 0 ? "t." : " AND t.") + name + " = " + value(i);
        } else {
            set += (set.empty() ? "" : ", ") + name + " = " + value(i);
        }
    }
    const bool update = form.kind == BatchKind::update;
    auto text = (update ? "UPDATE ONLY " : "DELETE FROM ONLY ") + table.qualified_name() + " AS t" + (update ? " SET " + set : "");
    if (rows > 1) text += (update ? " FROM (VALUES " : " USING (VALUES ") + value_list(table, form, rows) + ") AS v (" + names + ")";
    return text + " WHERE " + condition;
}

}  // namespace

std::optional<BatchRow> batch_row(const SourceTable& table, const pgoutput::Message& change) {
    if (const auto* insert = std::get_if<pgoutput::Insert>(&change)) return row_of_insert(table, *insert);
    if (table.rows_estimate < small_table_rows) return std::nullopt;
    if (const auto* update = std::get_if<pgoutput::Update>(&change)) return row_of_update(table, *update);
    if (const auto* deletion = std::get_if<pgoutput::Delete>(&change)) return row_of_delete(table, *deletion);
    return std::nullopt;
}

std::string batch_statement(const SourceTable& table, const BatchForm& form, std::size_t rows) {
    return form.kind == BatchKind::insert ? insert_rows(table, form, rows) : change_rows(table, form, rows);
}

std::size_t batch_size(std::size_t rows, std::size_t values_each) {
    for (const std::size_t size : {Batch::rows_max, std::size_t{16}, std::size_t{4}}) {
        if (rows >= size && size * values_each <= values_max) return size;
    }
    return 1;
}

bool Batch::takes(const BatchRow& row) const {
    return rows_ == 0 || (!full() && form_ == row.form && (row.key.empty() || !keys_.contains(row.key)));
}

void Batch::add(BatchRow row) {
    if (rows_ == 0) form_ = std::move(row.form);
    ++rows_;
    for (const auto& value : row.values) {
        if (!value) {
            starts_.emplace_back(std::nullopt);
            continue;
        }
        starts_.emplace_back(bytes_.size());
        bytes_.append(*value).push_back('\0');
    }
    if (!row.key.empty()) keys_.insert(std::move(row.key));
}

std::vector<const char*> Batch::values() const {
    std::vector<const char*> pointers;
    pointers.reserve(starts_.size());
    for (const auto& start : starts_) pointers.push_back(start ? bytes_.data() + *start : nullptr);
    return pointers;
}

void Batch::clear() {
    rows_ = 0;
    bytes_.clear();
    starts_.clear();
    keys_.clear();
}

}  // namespace pgporter
