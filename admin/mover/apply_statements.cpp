#include "admin/mover/apply_statements.hpp"

#include <algorithm>

namespace pgporter {
namespace {

using pgoutput::OldRow;
using pgoutput::Tuple;
using pgoutput::Value;
using pgoutput::ValueKind;

// Builds the text and collects the values; each value is used once, in the order of its placeholder.
class Builder {
  public:
    explicit Builder(const SourceTable& table) : table_(table) {}

    void add(std::string_view text) { statement_.sql += text; }
    void add_value(const Value& value) {
        if (value.kind == ValueKind::null) {
            statement_.values.emplace_back(std::nullopt);
        } else {
            statement_.values.emplace_back(value.bytes);
        }
        statement_.sql += "$" + std::to_string(statement_.values.size());
    }
    ApplyStatement take() { return std::move(statement_); }

    // `a = $1 AND b = $2` over the replica identity's columns.
    void add_key_condition(const Tuple& row) {
        const char* separator = "";
        for (const auto index : table_.key) {
            add(separator);
            add("t." + quote_ident(table_.columns[index].name) + " = ");
            add_value(row[index]);
            separator = " AND ";
        }
        add_owner();
    }

    // Without a key all columns must fit, and of several equal rows exactly one is meant. Types whose `=` calls
    // different values equal (1.0 and 1.00) prefer the row that is the same byte for byte.
    void add_full_condition(const Tuple& row) {
        add("t.ctid = (SELECT c.ctid FROM ONLY " + table_.qualified_name() + " AS c WHERE ");
        std::string image_columns;
        std::string image_values;
        const char* separator = "";
        for (std::size_t i = 0; i < row.size(); ++i) {
            const auto& column = table_.columns[i];
            const auto name = "c." + quote_ident(column.name);
            add(separator);
            separator = " AND ";
            if (row[i].kind == ValueKind::null) {
                add(name + " IS NULL");
                continue;
            }
            add(name + (column.comparable ? "" : "::text") + " = ");
            add_value(row[i]);
            const auto placeholder = "$" + std::to_string(statement_.values.size());
            // The same parameter twice must have one type: named here, where it is used first.
            add(column.comparable ? "::" + column.type : "::text");
            if (!column.comparable) continue;
            image_columns += (image_columns.empty() ? "" : ", ") + name;
            image_values += (image_values.empty() ? "" : ", ") + placeholder + "::" + column.type;
        }
        if (!image_columns.empty())
            add(" ORDER BY (ROW(" + image_columns + ")::record *= ROW(" + image_values + ")::record) DESC");
        add(" LIMIT 1)");
        add_owner();
    }

    [[nodiscard]] const SourceTable& table() const { return table_; }

  private:
    // In tables that others have rows in, a key need not be the tenant's.
    void add_owner() {
        if (table_.into_shared && !table_.row_filter.empty()) add(" AND " + table_.row_filter);
    }

    const SourceTable& table_;
    ApplyStatement statement_;
};

bool fits(const SourceTable& table, const Tuple& row, bool toast_allowed) {
    return row.size() == table.columns.size() && std::all_of(row.begin(), row.end(), [&](const Value& value) {
               return value.kind == ValueKind::null || value.kind == ValueKind::text ||
                      (toast_allowed && value.kind == ValueKind::unchanged_toast);
           });
}

void add_condition(Builder& builder, const pgoutput::Update& update) {
    if (update.old_kind == OldRow::full) {
        builder.add_full_condition(update.old_row);
    } else {
        builder.add_key_condition(update.old_kind == OldRow::key ? update.old_row : update.row);
    }
}

ApplyStatement replace_row(const SourceTable& table, const pgoutput::Update& update) {
    Builder builder(table);
    builder.add("WITH old AS (DELETE FROM ONLY " + table.qualified_name() + " AS t WHERE ");
    add_condition(builder, update);
    builder.add(" RETURNING t.*) INSERT INTO " + table.qualified_name() + " (");
    const char* separator = "";
    for (const auto& column : table.columns) {
        builder.add(separator + quote_ident(column.name));
        separator = ", ";
    }
    builder.add(") OVERRIDING SYSTEM VALUE SELECT ");
    separator = "";
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        builder.add(separator);
        separator = ", ";
        if (update.row[i].kind == ValueKind::unchanged_toast) {
            builder.add("old." + quote_ident(table.columns[i].name));
        } else {
            builder.add_value(update.row[i]);
            builder.add("::" + table.columns[i].type);
        }
    }
    builder.add(" FROM old");
    return builder.take();
}

ApplyStatement change_row(const SourceTable& table, const pgoutput::Update& update) {
    Builder builder(table);
    builder.add("UPDATE ONLY " + table.qualified_name() + " AS t SET ");
    const char* separator = "";
    bool sets = false;
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        const auto& column = table.columns[i];
        if (column.identity_always || update.row[i].kind == ValueKind::unchanged_toast) continue;
        // A key that didn't change needn't be written, and its indexes needn't be touched.
        if (column.key && update.old_kind == OldRow::none) continue;
        builder.add(separator + quote_ident(column.name) + " = ");
        builder.add_value(update.row[i]);
        separator = ", ";
        sets = true;
    }
    if (!sets) {
        Builder lookup(table);
        lookup.add("SELECT 1 FROM ONLY " + table.qualified_name() + " AS t WHERE ");
        add_condition(lookup, update);
        return lookup.take();
    }
    builder.add(" WHERE ");
    add_condition(builder, update);
    return builder.take();
}

}  // namespace

// A key that can be looked up has no null in it.
bool key_is_whole(const SourceTable& table, const Tuple& row) {
    return !table.key.empty() && row.size() == table.columns.size() &&
           std::all_of(table.key.begin(), table.key.end(),
                       [&](std::size_t i) { return row[i].kind == ValueKind::text; });
}

bool must_replace(const SourceTable& table, const pgoutput::Update& update) {
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        const auto& column = table.columns[i];
        if (!column.identity_always) continue;
        if (update.old_kind == OldRow::none) {
            if (!column.key) return true;
            continue;  // the key's values weren't sent: they are as they were
        }
        const bool known = update.old_kind == OldRow::full || column.key;
        if (!known || update.old_row[i].bytes != update.row[i].bytes) return true;
    }
    return false;
}

bool is_whole_row(const SourceTable& table, const Tuple& row) {
    return fits(table, row, false);
}

bool is_applicable(const SourceTable& table, const pgoutput::Update& update) {
    if (!fits(table, update.row, true)) return false;
    if (update.old_kind == OldRow::full) return fits(table, update.old_row, false);
    return key_is_whole(table, update.old_kind == OldRow::key ? update.old_row : update.row);
}

std::optional<ApplyStatement> insert_statement(const SourceTable& table, const pgoutput::Insert& insert) {
    if (!fits(table, insert.row, false)) return std::nullopt;
    Builder builder(table);
    builder.add("INSERT INTO " + table.qualified_name() + " (");
    const char* separator = "";
    for (const auto& column : table.columns) {
        builder.add(separator + quote_ident(column.name));
        separator = ", ";
    }
    builder.add(") OVERRIDING SYSTEM VALUE VALUES (");
    separator = "";
    for (const auto& value : insert.row) {
        builder.add(separator);
        builder.add_value(value);
        separator = ", ";
    }
    builder.add(")");
    return builder.take();
}

std::optional<ApplyStatement> update_statement(const SourceTable& table, const pgoutput::Update& update) {
    if (!is_applicable(table, update)) return std::nullopt;
    if (must_replace(table, update)) return replace_row(table, update);
    return change_row(table, update);
}

std::optional<ApplyStatement> delete_statement(const SourceTable& table, const pgoutput::Delete& deletion) {
    Builder builder(table);
    builder.add("DELETE FROM ONLY " + table.qualified_name() + " AS t WHERE ");
    if (deletion.old_kind == OldRow::full) {
        if (!fits(table, deletion.old_row, false)) return std::nullopt;
        builder.add_full_condition(deletion.old_row);
    } else {
        if (!key_is_whole(table, deletion.old_row)) return std::nullopt;
        builder.add_key_condition(deletion.old_row);
    }
    return builder.take();
}

std::string empty_statement(const SourceTable& table) {
    return "DELETE FROM ONLY " + table.qualified_name() + " AS t WHERE " + table.row_filter;
}

std::string truncate_statement(const std::vector<const SourceTable*>& tables, const pgoutput::Truncate& truncate) {
    std::string sql;
    for (const auto* table : tables) sql += (sql.empty() ? "TRUNCATE ONLY " : ", ONLY ") + table->qualified_name();
    if (truncate.restart_identity) sql += " RESTART IDENTITY";
    if (truncate.cascade) sql += " CASCADE";
    return sql;
}

bool same_definition(const SourceTable& table, const pgoutput::Relation& relation) {
    if (table.name != relation.name || table.schema != relation.schema ||
        table.replica_identity != relation.replica_identity)
        return false;
    if (table.columns.size() != relation.columns.size()) return false;
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        const auto& known = table.columns[i];
        const auto& seen = relation.columns[i];
        // With REPLICA IDENTITY FULL every column is sent as part of the key.
        const bool key = table.replica_identity == 'f' || known.key;
        if (known.name != seen.name || known.type_oid != seen.type || known.type_modifier != seen.type_modifier ||
            key != seen.key) {
            return false;
        }
    }
    return true;
}

}  // namespace pgporter
