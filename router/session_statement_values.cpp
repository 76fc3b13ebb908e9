// resolve(): what a statement changes, once its bind parameters are known. And a quick look at its first word.
#include <boost/json.hpp>
#include <utility>

#include "router/session_statement.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

std::optional<std::string> text_of(const SettingOperand& operand, const BindValues& values) {
    switch (operand.kind) {
        case SettingOperand::Kind::text: return operand.text;
        case SettingOperand::Kind::parameter: return values[operand.parameter - 1U];
        case SettingOperand::Kind::null:
        case SettingOperand::Kind::pairs: return std::nullopt;
    }
    return std::nullopt;
}

bool is_there(const SettingOperand& operand, const BindValues& values) {
    const bool is_bound = operand.kind == SettingOperand::Kind::parameter || operand.kind == SettingOperand::Kind::pairs;
    return !is_bound || operand.parameter <= values.size();
}

// An element of a pair; false: neither text nor null. Numbers and the like have spellings that parsing loses.
bool take_text(const boost::json::array& pair, std::size_t at, std::optional<std::string>& into) {
    if (at >= pair.size() || pair[at].is_null()) return true;
    const boost::json::string* text = pair[at].if_string();
    if (text == nullptr || text->find('\0') != boost::json::string::npos) return false;
    into = std::string(*text);
    return true;
}

bool add_pairs(const std::string& json, bool is_local, std::vector<ResolvedChange>& into) {
    boost::system::error_code error;
    const boost::json::value parsed = boost::json::parse(json, error);
    const boost::json::array* pairs = error ? nullptr : parsed.if_array();
    if (pairs == nullptr) return false;
    for (const boost::json::value& element : *pairs) {
        const boost::json::array* pair = element.if_array();
        std::optional<std::string> name;
        std::optional<std::string> value;
        if (pair == nullptr || !take_text(*pair, 0, name) || !name || !take_text(*pair, 1, value)) return false;
        into.push_back({folded(*name), std::move(value), is_local});
    }
    return true;
}

}  // namespace

std::optional<std::vector<ResolvedChange>> resolve(const SessionStatement& statement, const BindValues& values) {
    std::vector<ResolvedChange> changes;
    for (const SettingChange& change : statement.changes) {
        if (!is_there(change.name, values) || !is_there(change.value, values) || !is_there(change.local, values)) return std::nullopt;
        const auto local = text_of(change.local, values);  // null is as good as false, as PostgreSQL has it
        const bool is_local = local && (*local == "true" || *local == "t");
        if (change.name.kind == SettingOperand::Kind::pairs) {
            const std::optional<std::string>& json = values[change.name.parameter - 1U];
            if (json && !add_pairs(*json, is_local, changes)) return std::nullopt;  // null has no elements
            continue;
        }
        const auto name = text_of(change.name, values);
        if (!name) return std::nullopt;
        changes.push_back({folded(*name), text_of(change.value, values), is_local});
    }
    return changes;
}

bool is_transaction_word(std::string_view word) {
    if (word.size() < 3 || word.size() > 9) return false;
    switch (word.front() | 0x20) {
        case 'a': return equals_folded(word, "abort");
        case 'b': return equals_folded(word, "begin");
        case 'c': return equals_folded(word, "commit");
        case 'e': return equals_folded(word, "end");
        case 'r': return equals_folded(word, "rollback") || equals_folded(word, "release");
        case 's': return equals_folded(word, "start") || equals_folded(word, "savepoint");
        default: return false;
    }
}

}  // namespace pgporter
