#include "admin/mover/tenant_filter.hpp"

#include <algorithm>
#include <optional>

namespace pgporter {
namespace {

using pgoutput::OldRow;
using pgoutput::Tuple;
using pgoutput::ValueKind;

// None: the value isn't in the row.
std::optional<bool> is_of_tenant(const SourceTable& table, const Tuple& row) {
    const auto& value = row[*table.tenant_column];
    if (value.kind == ValueKind::null) return false;
    if (value.kind != ValueKind::text) return std::nullopt;
    return value.bytes == table.tenant_value;
}

bool column_is_in_key(const SourceTable& table) {
    return table.columns[*table.tenant_column].key;
}

FilteredChange remove_row(Fate fate, pgoutput::RelationId relation, OldRow kind, const Tuple& row) {
    FilteredChange result;
    result.fate = fate;
    result.removal = {relation, kind, row};
    return result;
}

FilteredChange fate_only(Fate fate) {
    FilteredChange result;
    result.fate = fate;
    return result;
}

// The new row, with the values that the change left out taken from the old one where that is whole.
FilteredChange enter(const pgoutput::Update& update) {
    FilteredChange result;
    result.fate = Fate::insert;
    result.insert = {update.relation, update.row};
    for (std::size_t i = 0; i < result.insert.row.size(); ++i) {
        auto& value = result.insert.row[i];
        if (value.kind != ValueKind::unchanged_toast) continue;
        if (update.old_kind != OldRow::full || update.old_row[i].kind != ValueKind::text) return fate_only(Fate::fetch);
        value = update.old_row[i];
    }
    return result;
}

std::optional<FilteredChange> filter_update(const SourceTable& table, const pgoutput::Update& update) {
    const auto is_ours = is_of_tenant(table, update.row);
    if (!is_ours) return std::nullopt;
    std::optional<bool> was_ours;
    if (update.old_kind == OldRow::full || (update.old_kind == OldRow::key && column_is_in_key(table))) {
        was_ours = is_of_tenant(table, update.old_row);
        if (!was_ours) return std::nullopt;
    } else if (update.old_kind == OldRow::none && column_is_in_key(table)) {
        was_ours = is_ours;  // the key is what it was
    }
    if (*is_ours) {
        if (!was_ours) return fate_only(Fate::update_or_missing);
        return *was_ours ? fate_only(Fate::update) : enter(update);
    }
    if (was_ours && !*was_ours) return fate_only(Fate::skip);
    const auto fate = was_ours ? Fate::remove : Fate::remove_if_there;
    if (update.old_kind == OldRow::none) return remove_row(fate, update.relation, OldRow::key, update.row);
    return remove_row(fate, update.relation, update.old_kind, update.old_row);
}

std::optional<FilteredChange> filter_delete(const SourceTable& table, const pgoutput::Delete& deletion) {
    if (deletion.old_kind != OldRow::full && !column_is_in_key(table)) {
        return remove_row(Fate::remove_if_there, deletion.relation, deletion.old_kind, deletion.old_row);
    }
    const auto was_ours = is_of_tenant(table, deletion.old_row);
    if (!was_ours) return std::nullopt;
    if (!*was_ours) return fate_only(Fate::skip);
    return remove_row(Fate::remove, deletion.relation, deletion.old_kind, deletion.old_row);
}

}  // namespace

std::optional<FilteredChange> filter_change(const SourceTable& table, const pgoutput::Message& change) {
    const auto fits = [&](const Tuple& row) { return row.size() == table.columns.size(); };
    if (const auto* insert = std::get_if<pgoutput::Insert>(&change)) {
        const auto is_ours = fits(insert->row) ? is_of_tenant(table, insert->row) : std::nullopt;
        if (!is_ours) return std::nullopt;
        if (!*is_ours) return fate_only(Fate::skip);
        FilteredChange result;
        result.fate = Fate::insert;
        result.insert = *insert;
        return result;
    }
    if (const auto* update = std::get_if<pgoutput::Update>(&change)) {
        if (!fits(update->row) || (update->old_kind != OldRow::none && !fits(update->old_row))) return std::nullopt;
        return filter_update(table, *update);
    }
    if (const auto* deletion = std::get_if<pgoutput::Delete>(&change)) {
        return fits(deletion->old_row) ? filter_delete(table, *deletion) : std::nullopt;
    }
    return std::nullopt;
}

}  // namespace pgporter
