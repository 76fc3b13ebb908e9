#include "router/scoped_settings.hpp"

#include <algorithm>

namespace pgporter {
namespace {

void put(ScopedSettings::Values& values, std::string_view name, const std::optional<std::string>& value) {
    const auto found = std::find_if(values.begin(), values.end(), [&](const auto& entry) { return entry.first == name; });
    if (!value) {
        if (found != values.end()) values.erase(found);
    } else if (found == values.end()) {
        values.emplace_back(name, *value);
    } else {
        found->second = *value;
    }
}

}  // namespace

const std::string* find_value(const ScopedSettings::Values& values, std::string_view name) {
    const auto found = std::find_if(values.begin(), values.end(), [&](const auto& entry) { return entry.first == name; });
    return found == values.end() ? nullptr : &found->second;
}

void ScopedSettings::change(std::string_view name, const std::optional<std::string>& value, bool is_local) {
    put(now_.effective, name, value);
    if (!is_local) put(now_.persistent, name, value);
}

void ScopedSettings::begin() {
    if (in_transaction_) return;
    in_transaction_ = true;
    savepoints_.clear();
    at_begin_ = now_;
}

void ScopedSettings::commit() {
    in_transaction_ = false;
    savepoints_.clear();
    now_.effective = now_.persistent;
}

void ScopedSettings::rollback() {
    if (in_transaction_) now_ = at_begin_;
    commit();
}

std::optional<std::size_t> ScopedSettings::find(std::string_view name) const {
    for (std::size_t i = savepoints_.size(); i-- > 0;) {
        if (savepoints_[i].name == name) return i;
    }
    return std::nullopt;
}

void ScopedSettings::savepoint(std::string name) {
    if (!in_transaction_) return;  // PostgreSQL refuses it
    savepoints_.push_back({std::move(name), now_});
}

bool ScopedSettings::has_savepoint(std::string_view name) const {
    return find(name).has_value();
}

bool ScopedSettings::release(std::string_view name) {
    const auto at = find(name);
    if (!at) return false;
    savepoints_.resize(*at);
    return true;
}

bool ScopedSettings::roll_back_to(std::string_view name) {
    const auto at = find(name);
    if (!at) return false;
    now_ = savepoints_[*at].view;
    savepoints_.resize(*at + 1);  // the savepoint itself stays
    return true;
}

void ScopedSettings::reset(Values values) {
    now_ = {values, values};
    savepoints_.clear();
    in_transaction_ = false;
}

}  // namespace pgporter
