#include "admin/mover/changed_rows.hpp"

#include <cstring>

namespace pgporter {

std::string encode_key(const SourceTable& table, const pgoutput::Tuple& row) {
    std::string key;
    for (const auto index : table.key) {
        const auto bytes = row.at(index).bytes;
        const auto length = static_cast<std::uint32_t>(bytes.size());
        char prefix[sizeof length];
        std::memcpy(prefix, &length, sizeof length);
        key.append(prefix, sizeof length).append(bytes);
    }
    return key;
}

std::vector<std::string> decode_key(std::string_view key) {
    std::vector<std::string> values;
    while (!key.empty()) {
        std::uint32_t length = 0;
        std::memcpy(&length, key.data(), sizeof length);
        values.emplace_back(key.substr(sizeof length, length));
        key.remove_prefix(sizeof length + length);
    }
    return values;
}

void ChangedRows::add(const SourceTable& table, const pgoutput::Tuple& row) {
    if (table.key.empty()) return add_whole(table);
    add_key(table, encode_key(table, row));
}

void ChangedRows::add_key(const SourceTable& table, std::string key) {
    auto& changes = tables_[&table];
    if (changes.whole) return;
    if (keyed_rows_ >= keys_max) return add_whole(table);
    if (changes.keys.insert(std::move(key)).second) ++keyed_rows_;
}

ChangedRows ChangedRows::of_fenced_tables() const {
    ChangedRows fenced;
    for (const auto& [table, changes] : tables_) {
        if (table->unfenced) continue;
        fenced.tables_.emplace(table, changes);
        fenced.keyed_rows_ += changes.keys.size();
    }
    return fenced;
}

void ChangedRows::add_whole(const SourceTable& table) {
    auto& changes = tables_[&table];
    keyed_rows_ -= changes.keys.size();
    changes.keys.clear();
    changes.whole = true;
}

void ChangedRows::add_truncated(const SourceTable& table) {
    add_whole(table);
    tables_[&table].truncated = true;
}

void ChangedRows::add_all(const ChangedRows& others) {
    for (const auto& [table, changes] : others.tables_) {
        if (changes.truncated) {
            add_truncated(*table);
        } else if (changes.whole) {
            add_whole(*table);
        }
        for (const auto& key : changes.keys) add_key(*table, key);
    }
}

bool ChangedRows::truncated(const SourceTable& table) const {
    const auto found = tables_.find(&table);
    return found != tables_.end() && found->second.truncated;
}

void ChangedRows::add_change(const SourceTable& table, const pgoutput::Message& change) {
    if (const auto* insert = std::get_if<pgoutput::Insert>(&change)) {
        add(table, insert->row);
    } else if (const auto* update = std::get_if<pgoutput::Update>(&change)) {
        if (update->old_kind != pgoutput::OldRow::none) add(table, update->old_row);
        add(table, update->row);
    } else if (const auto* deletion = std::get_if<pgoutput::Delete>(&change)) {
        add(table, deletion->old_row);
    }
}

}  // namespace pgporter
