// In which dialect the session's SQL is read: standard_conforming_strings and client_encoding as the server connection, or between two
// of them the client, has them now. Where that isn't certain, text whose meaning depends on it isn't sent.
#include <algorithm>

#include "proxy/session/session.hpp"

namespace pgporter {
namespace {

std::string_view value_of(const Settings& reported, std::string_view name) {
    const std::string* value = find_setting(reported, name);
    return value == nullptr ? std::string_view() : std::string_view(*value);
}

std::string key_of(const Settings& reported) {
    const std::string_view strings = value_of(reported, "standard_conforming_strings");
    const std::string_view encoding = value_of(reported, "client_encoding");
    if (strings != "off" && encoding == "UTF8") return {};
    return std::string(strings) + '/' + std::string(encoding);
}

// Equal texts are equal statements.
bool reads_alike(std::string_view sql, std::string_view key, std::string_view other_key) {
    return key == other_key || !depends_on_dialect(sql);
}

}  // namespace

const SessionDialect& Session::spoken() const {
    const std::shared_ptr<const Settings>& reported = server_ ? server_->reported() : client_reported_;
    if (reported && reported != spoken_.source) {
        spoken_.key = key_of(*reported);
        spoken_.dialect = sql_dialect(value_of(*reported, "standard_conforming_strings"), value_of(*reported, "client_encoding"),
                                      value_of(*reported, "server_encoding"));
        spoken_.source = reported;
    }
    return spoken_;
}

bool Session::speaks_alike(const ServerConnection& server) const {
    if (!client_reported_ || server.reported() == client_reported_) return true;
    return key_of(*server.reported()) == (spoken_.source == client_reported_ ? spoken_.key : key_of(*client_reported_));
}

// How a text's values are read where the session is now. Where that isn't certain it is nobody else's.
Reading Session::reading_of(std::string_view definition) const {
    const std::string_view sql = definition.substr(0, definition.find('\0'));
    const SessionContextPtr& state = server_ && context_ ? context_ : own_state_;
    static const Settings none;
    const Settings& settings = state ? state->settings : none;
    ParseTime time = parse_time_of(sql, dialect());
    const bool may_read_null_otherwise = reading_in_doubt_ || reads_null_otherwise(settings);
    if (time == ParseTime::nothing && may_read_null_otherwise && mentions_null(sql)) time = ParseTime::settings;
    if (time == ParseTime::nothing) return {};
    if (time == ParseTime::moment || reading_in_doubt_) return {"its own", true};
    const auto& reported = server_ && !parameters_untold_ ? server_->reported() : client_reported_;
    return {reading_text(reported.get(), settings), false};
}

// Values of ours, in UTF-8, mean the same in the client's encoding.
bool Session::can_spell(std::string_view utf8) const {
    return dialect().encoding == SqlEncoding::utf8 || is_ascii(utf8);
}

bool Session::can_spell_named() const {
    const auto& persistent = named_.view().persistent;
    return dialect().encoding == SqlEncoding::utf8 ||
           std::all_of(persistent.begin(), persistent.end(), [this](const auto& setting) { return can_spell(setting.second); });
}

// Before a text goes to the server: how it was read is how the server reads it, or it isn't sent.
std::optional<Error> Session::doubt_about(std::string_view sql, const StatementTraits& traits) {
    const auto is_unreadable = [this](const std::string& name) { return !can_spell(name); };
    if (std::any_of(traits.custom_settings.begin(), traits.custom_settings.end(), is_unreadable)) return client_error::unreadable_setting();
    if (replies_.is_empty() || !depends_on_dialect(sql)) return std::nullopt;
    if (dialect_in_doubt_) return client_error::unreadable_statement();
    has_dependent_in_flight_ = true;
    return std::nullopt;
}

// What a bind parameter says in another encoding names nobody that the catalog knows in UTF-8, whatever its bytes look like.
bool Session::has_unreadable_naming(const std::vector<ResolvedChange>& changes) const {
    return std::any_of(changes.begin(), changes.end(), [this](const ResolvedChange& change) {
        return !can_spell(change.name) || (change.value && !can_spell(*change.value) && names_tenants(worker_.config().identify, change.name));
    });
}

// The client was told another dialect. A function may have changed it, which no look at the text shows.
void Session::note_dialect() {
    const std::string before = spoken_.key;
    if (spoken().key == before) return;
    state_is_suspect_ = true;
    if (!has_dependent_in_flight_) return;
    const Error error = client_error::dialect_changed();
    end(EndReason::protocol_violation, &error);
}

// Prepared in one dialect, a statement can't be prepared anew in another one: it would be another statement.
std::optional<Error> Session::trouble_with_spelling(std::string_view name) {
    if (name.empty()) {
        const bool is_there = unnamed_serial_ == 0 || server_->unnamed_statement == unnamed_serial_;
        if (is_there || reads_alike(text_of_statement({}), unnamed_spelling_, spoken().key)) return std::nullopt;
        return client_error::statement_spelled_otherwise();
    }
    const auto known = names_.find(statement_key(name));
    if (known == names_.end() || known->second.statement->spelling == spoken().key) return std::nullopt;
    const bool is_there = known->second.statement->owner == statement_owner() && server_->statements().contains(known->second.statement->number);
    if (is_there || !depends_on_dialect(text_of_statement(name))) return std::nullopt;
    return client_error::statement_spelled_otherwise();
}

}  // namespace pgporter
