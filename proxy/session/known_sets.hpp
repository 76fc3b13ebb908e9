// KnownSets: texts that are one SET of one setting, understood before: an application names its tenant by the same few texts again and again.
// Owned by a Worker; same thread; pure. Bounded: each text has one place, and the last one to come keeps it.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "router/session_statement.hpp"

namespace pgporter {

struct KnownSet {
    std::string text;  // the whole Query
    std::string name;
    std::string value;
};

class KnownSets {
  public:
    static constexpr std::size_t places = 1024;
    static constexpr std::size_t text_bytes_max = 256;

    // Null: not seen lately.
    [[nodiscard]] const KnownSet* find(std::string_view sql) const {
        if (sql.size() > text_bytes_max) return nullptr;
        const std::unique_ptr<const KnownSet>& known = known_[place_of(sql)];
        return known && known->text == sql ? known.get() : nullptr;
    }
    // `statements`: what recognise() made of the text. Anything but one SET that lasts, to a value that stands there, isn't kept.
    void note(std::string_view sql, const std::vector<SessionStatement>& statements) {
        if (sql.size() > text_bytes_max || statements.size() != 1) return;
        const SessionStatement& only = statements.front();
        if (find(sql) != nullptr) return;
        if (only.verb != SessionVerb::set || only.needs_server || only.changes.size() != 1) return;
        const SettingChange& change = only.changes.front();
        const bool is_text = change.name.kind == SettingOperand::Kind::text && change.value.kind == SettingOperand::Kind::text;
        if (!is_text || change.local.text != "false") return;
        known_[place_of(sql)] = std::make_unique<const KnownSet>(KnownSet{std::string(sql), change.name.text, change.value.text});
    }

  private:
    [[nodiscard]] static std::size_t place_of(std::string_view sql) { return std::hash<std::string_view>()(sql) % places; }

    std::array<std::unique_ptr<const KnownSet>, places> known_;
};

}  // namespace pgporter
