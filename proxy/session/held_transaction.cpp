#include "proxy/session/held_transaction.hpp"

#include <utility>

#include "base/utf8.hpp"
#include "proxy/pool/context.hpp"
#include "proxy/session/client_errors.hpp"
#include "router/search_path.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

using Answer = HeldTransaction::Answer;

Answer answered(std::string tag) {
    return {Answer::Kind::answered, std::move(tag), {}, {}};
}

Answer needs_server() {
    return {};
}

Answer refused(Error error) {
    return {Answer::Kind::refused, {}, {}, std::move(error)};
}

bool starts_with_word(std::string_view text, std::string_view word) {
    return text.size() >= word.size() && equals_folded(text.substr(0, word.size()), word);
}

// Around the name of a setting that went back to its default, behind the statement; in no text that PostgreSQL takes for one.
constexpr char reset_mark = '\x01';

// BEGIN without modes, which would change the open transaction.
bool is_plain_begin(std::string_view text) {
    for (const std::string_view plain : {"begin", "begin work", "begin transaction", "start transaction"}) {
        if (equals_folded(text, plain)) return true;
    }
    return false;
}

// A call as the log of held back statements has it: with the values that bind parameters gave.
std::string set_config_sql(const std::vector<ResolvedChange>& changes) {
    std::string sql = "SELECT ";
    for (const ResolvedChange& change : changes) {
        if (sql.size() > 7) sql += ", ";
        sql += "pg_catalog.set_config(" + sql_literal(change.name) + ", " + (change.value ? sql_literal(*change.value) : "NULL") +
               (change.is_local ? ", true)" : ", false)");
    }
    return sql;
}

}  // namespace

bool HeldTransaction::performs(const SessionStatement& statement, const std::vector<ResolvedChange>& changes, const IdentifyConfig& config,
                               const ScopedSettings& named) const {
    const bool open = state_ == State::open;
    if (state_ == State::failed) return true;
    if (statement.needs_server) return false;
    switch (statement.verb) {
        case SessionVerb::begin: return !open || is_plain_begin(statement.text) || (!has_queried_ && named.savepoints() == 0);
        case SessionVerb::commit:
        case SessionVerb::rollback: return open;
        default: break;
    }
    if (settings_.size() + statement.text.size() > held_back_bytes_max) return false;
    switch (statement.verb) {
        case SessionVerb::set_transaction: return open && !has_queried_ && named.savepoints() == 0;
        case SessionVerb::savepoint: return open;
        case SessionVerb::release:
        case SessionVerb::rollback_to: return open && named.has_savepoint(statement.savepoint);
        case SessionVerb::set:
        case SessionVerb::set_config: return performs_change(statement, changes, config);
        default: return false;
    }
}

bool HeldTransaction::performs_change(const SessionStatement& statement, const std::vector<ResolvedChange>& changes,
                                      const IdentifyConfig& config) const {
    const bool has_result = statement.verb == SessionVerb::set_config;
    std::size_t bytes = settings_.size();
    for (const ResolvedChange& change : changes) {
        if (!names_tenants(config, change.name) || (has_result && !change.value)) return false;
        if (change.is_local && state_ != State::open) return false;
        if (!change.value) continue;
        bytes += change.value->size();
        const bool is_text = is_utf8(*change.value) && change.value->find('\0') == std::string::npos;
        if (!is_text || (change.name == "search_path" && !split_search_path(*change.value))) return false;
    }
    return !changes.empty() && bytes <= held_back_bytes_max;
}

HeldTransaction::Answer HeldTransaction::perform(const SessionStatement& statement, const std::vector<ResolvedChange>& changes,
                                                 const World& world, ScopedSettings& named) {
    if (!performs(statement, changes, world.config, named)) return needs_server();
    const bool is_failed = state_ == State::failed;
    if (is_failed && statement.needs_server) return refused(client_error::transaction_aborted());
    switch (statement.verb) {
        case SessionVerb::commit:
        case SessionVerb::rollback: return end_transaction(statement, named);
        case SessionVerb::rollback_to: return roll_back_to(statement, named);
        default: break;
    }
    if (is_failed) return refused(client_error::transaction_aborted());
    switch (statement.verb) {
        case SessionVerb::begin:
            if (state_ == State::open) {
                if (!is_plain_begin(statement.text)) begin_ += "; " + statement.text;  // its modes count
                Answer again = answered(starts_with_word(statement.text, "start") ? "START TRANSACTION" : "BEGIN");
                again.warning = pgporter::fail(ErrorKind::invalid, "there is already a transaction in progress", {}, {}, "25001");
                return again;
            }
            state_ = State::open;
            begin_ = statement.text;
            named.begin();
            return answered(starts_with_word(statement.text, "start") ? "START TRANSACTION" : "BEGIN");
        case SessionVerb::savepoint:
            named.savepoint(statement.savepoint);
            hold_back(statement.text);
            savepoints_.push_back(settings_.size());
            return answered("SAVEPOINT");
        case SessionVerb::release:
            named.release(statement.savepoint);
            hold_back(statement.text);
            savepoints_.resize(named.savepoints());
            return answered("RELEASE");
        case SessionVerb::set_transaction:
            begin_ += "; " + statement.text;
            return answered("SET");
        case SessionVerb::set:
        case SessionVerb::set_config: return change_settings(statement, changes, world, named);
        default: return needs_server();
    }
}

HeldTransaction::Answer HeldTransaction::end_transaction(const SessionStatement& statement, ScopedSettings& named) {
    const bool commits = statement.verb == SessionVerb::commit && state_ == State::open;
    if (commits) {
        named.commit();
    } else {
        named.rollback();
    }
    // The next transaction of a chain begins as this one did.
    std::string begin = statement.chain ? std::move(begin_) : std::string();
    hand_over();
    if (statement.chain) {
        state_ = State::open;
        begin_ = std::move(begin);
        named.begin();
    }
    return answered(commits ? "COMMIT" : "ROLLBACK");
}

// What followed the savepoint was never sent, and never will be.
HeldTransaction::Answer HeldTransaction::roll_back_to(const SessionStatement& statement, ScopedSettings& named) {
    if (!named.roll_back_to(statement.savepoint)) {
        return refused(pgporter::fail(ErrorKind::invalid, "savepoint \"" + statement.savepoint + "\" does not exist", {}, {}, "3B001"));
    }
    state_ = State::open;
    savepoints_.resize(named.savepoints());
    settings_.resize(savepoints_.back());
    return answered("ROLLBACK");
}

HeldTransaction::Answer HeldTransaction::change_settings(const SessionStatement& statement, const std::vector<ResolvedChange>& changes,
                                                         const World& world, ScopedSettings& named) {
    for (const ResolvedChange& change : changes) {
        if (!change.value) continue;
        const auto tenant = tenant_named_by(world.config, world.snapshot, world.asker, change.name, *change.value);
        if (!tenant) return refused(tenant.error());
    }
    named.begin();  // a transaction of its own, unless there is one
    Answer answer;
    for (const ResolvedChange& change : changes) {
        named.change(change.name, change.value, change.is_local);
        if (statement.verb == SessionVerb::set_config) answer.row.push_back(*change.value);
    }
    answer.kind = Answer::Kind::answered;
    if (statement.verb == SessionVerb::set_config) {
        hold_back(set_config_sql(changes));
        has_queried_ = true;
        answer.tag = "SELECT 1";
    } else {
        hold_back(statement.text);
        for (const ResolvedChange& change : changes) {
            if (!change.value) settings_ += std::string{reset_mark, change.is_local ? 'L' : 'S'} + change.name + reset_mark;
        }
        answer.tag = starts_with_word(statement.text, "reset") ? "RESET" : "SET";
    }
    return answer;
}

void HeldTransaction::fail(ScopedSettings& named) {
    if (state_ == State::none) {
        named.rollback();
        hand_over();
    } else {
        state_ = State::failed;
    }
}

void HeldTransaction::end_implicit(ScopedSettings& named) {
    if (state_ != State::none) return;
    named.commit();
    hand_over();
}

void HeldTransaction::hold_back(std::string_view sql) {
    settings_ += "; ";
    settings_ += sql;
}

std::string HeldTransaction::held_back(const Beginning& beginning) const {
    if (state_ != State::open) return {};
    std::string sql = begin_;
    for (std::string_view rest = settings_; !rest.empty();) {
        const std::size_t mark = rest.find(reset_mark);
        sql += rest.substr(0, mark);
        if (mark == std::string_view::npos) break;
        rest.remove_prefix(mark + 1);
        const std::size_t end = rest.find(reset_mark);
        const std::string_view name = rest.substr(1, end - 1);
        const std::string* value = beginning ? beginning(name) : nullptr;
        if (value != nullptr) {
            sql += "; SELECT pg_catalog.set_config(" + sql_literal(name) + ", " + sql_literal(*value) + (rest.front() == 'L' ? ", true)" : ", false)");
        }
        rest.remove_prefix(end + 1);
    }
    return sql;
}

void HeldTransaction::hand_over() {
    state_ = State::none;
    begin_.clear();
    settings_.clear();
    savepoints_.clear();
    has_queried_ = false;
}

}  // namespace pgporter
