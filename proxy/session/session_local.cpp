// Statements about the session in the extended protocol: parsed and described here while there is no server connection, with the answers that
// PostgreSQL gives. What is bound to them is in session_portals.cpp. Refusals, in their turn and in our words.
#include <algorithm>

#include "proxy/session/session.hpp"
#include "router/sql_lexer.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"

namespace pgporter {
namespace {

constexpr std::uint32_t bool_oid = 16;
constexpr std::uint32_t text_oid = 25;

bool is_textual(std::uint32_t oid) {
    constexpr std::uint32_t unknown_oid = 705;
    constexpr std::uint32_t varchar_oid = 1043;
    return oid == 0 || oid == text_oid || oid == unknown_oid || oid == varchar_oid;
}

}  // namespace

// The type of each parameter, as PostgreSQL finds it out. Nullopt: it would refuse the types that the client declared, or they differ
// from one place to the next.
std::optional<std::vector<std::uint32_t>> Session::parameter_types(const SessionStatement& statement, std::string_view declarations) {
    std::vector<std::uint32_t> types;
    Reader reader(declarations);
    const auto declared = reader.u16();
    if (!declared) return std::nullopt;
    for (std::uint16_t i = 0; i < *declared; ++i) {
        const auto oid = reader.u32();
        if (!oid) return std::nullopt;
        types.push_back(*oid);
    }
    std::vector<bool> used(types.size());
    const auto use = [&](const SettingOperand& operand, std::uint32_t wanted) {
        if (operand.kind != SettingOperand::Kind::parameter) return true;
        if (types.size() < operand.parameter) {
            types.resize(operand.parameter);
            used.resize(operand.parameter);
        }
        std::uint32_t& type = types[operand.parameter - 1U];
        const bool fits = wanted == bool_oid ? type == 0 || type == bool_oid : is_textual(type);
        if (type == 0 || type == 705) type = wanted;
        used[operand.parameter - 1U] = true;
        return fits;
    };
    for (const SettingChange& change : statement.changes) {
        if (!use(change.name, text_oid) || !use(change.value, text_oid) || !use(change.local, bool_oid)) return std::nullopt;
    }
    for (std::size_t i = 0; i < types.size(); ++i) {
        if (!used[i] && types[i] == 0) return std::nullopt;  // a gap: PostgreSQL can't determine its type
    }
    return types;
}

std::shared_ptr<const SessionStatement> Session::session_statement(std::string_view statement_name) const {
    if (statement_name.empty()) return unnamed_serial_ != 0 ? unnamed_session_ : nullptr;
    const auto known = names_.find(statement_key(statement_name));
    return known == names_.end() ? nullptr : known->second.statement->session;
}

std::string_view Session::definition_of(std::string_view statement_name) const {
    if (statement_name.empty()) return unnamed_definition_;
    const auto known = names_.find(statement_key(statement_name));
    return known == names_.end() ? std::string_view() : std::string_view(known->second.statement->definition);
}

// False: the server must say what it thinks of this.
bool Session::parse_locally(std::string_view name, std::string_view definition) {
    const std::string_view sql = definition.substr(0, definition.find('\0'));
    auto statement = session_statement_of(sql, dialect());
    if (!statement || statement->needs_server || statement->verb == SessionVerb::other || statement->verb == SessionVerb::reset_all ||
        statement->verb == SessionVerb::discard_all) {
        return false;
    }
    const bool ends_transaction = statement->verb == SessionVerb::commit || statement->verb == SessionVerb::rollback ||
                                  statement->verb == SessionVerb::rollback_to;
    if (held_.state() == HeldTransaction::State::failed && !ends_transaction) return false;
    if (!parameter_types(*statement, definition.substr(sql.size() + 1))) return false;
    if (name.empty()) {
        unnamed_traits_ = std::make_shared<StatementTraits>(scan_statement(sql, dialect()));
        unnamed_session_ = std::move(statement);
        unnamed_definition_.assign(definition);
        unnamed_spelling_ = spoken().key;
        unnamed_serial_ = ++last_serial_;
        unnamed_told_.clear();
    } else {
        const std::string_view key = statement_key(name);
        if (names_.contains(key) || names_.size() >= worker_.config().limits.prepared_statements_max) return false;
        names_.emplace(std::string(key), NamedStatement{worker_.statements().find_or_create(statement_owner(), definition, spoken(), memory_account()), {}});
    }
    say(message::parse_complete());
    return true;
}

std::string Session::row_description_of(const SessionStatement& statement, const std::vector<std::uint16_t>& formats) const {
    if (statement.verb != SessionVerb::set_config) return message::no_data();
    std::string text;
    const std::size_t mark = begin_message(text, 'T');
    put_u16(text, static_cast<std::uint16_t>(statement.changes.size()));
    for (std::size_t i = 0; i < statement.changes.size(); ++i) {
        put_cstring(text, statement.changes[i].column);
        put_u32(text, 0);
        put_u16(text, 0);
        put_u32(text, text_oid);
        put_u16(text, 0xffff);
        put_u32(text, 0xffffffffU);
        put_u16(text, formats.empty() ? 0 : formats.size() == 1 ? formats[0] : formats[i]);
    }
    end_message(text, mark);
    return text;
}

// Nullopt: the server must say what it is.
std::optional<std::string> Session::description_of_statement(std::string_view name) const {
    const auto statement = session_statement(name);
    if (!statement || statement->needs_server || statement->verb == SessionVerb::other) return std::nullopt;
    const std::string_view definition = definition_of(name);
    const auto types = parameter_types(*statement, definition.substr(definition.find('\0') + 1));
    if (!types) return std::nullopt;
    return message::parameter_description(*types) + row_description_of(*statement, {});
}

bool Session::describe_statement_here(std::string_view name) {
    const auto text = description_of_statement(name);
    if (text) say(*text);
    return text.has_value();
}

Result<void> Session::plan_binding(const std::vector<ResolvedChange>& changes) {
    ScopedSettings after = named_;
    after.begin();
    bool changed = false;
    for (const ResolvedChange& change : changes) {
        if (!names_tenants(worker_.config().identify, change.name)) continue;
        after.change(change.name, change.value, change.is_local);
        changed = true;
    }
    if (changed) binding_ = after.view().effective;
    return {};
}

// A request of an extended batch that fails without a server: what follows is skipped up to Sync.
void Session::refuse_locally(const Error& error) {
    held_.fail(named_);
    binding_.reset();
    misplaced_.reset();
    route_is_stale_ = true;
    portals_.clear();
    skip_to_sync_ = true;
    say(client_error::to_message(error, "ERROR"));
}

// Sync without a server connection.
void Session::end_local_batch() {
    skip_to_sync_ = false;
    held_.end_implicit(named_);
    if (held_.state() == HeldTransaction::State::none) portals_.clear();
    say(message::ready_for_query(held_.status()));
}

std::uint32_t Session::remember_refusal(const Error& error) {
    return remember({Operation::Kind::refusal, error.sqlstate, nullptr, 0, client_error::to_message(error, "ERROR")});
}

// A request of an extended batch that must not reach the server: it is made to fail there, so that it fails in its turn, the transaction with
// it, and what follows is skipped.
void Session::raise_in_batch(const Error& error, const std::string& reply) {
    std::string name(server_statement_prefix);
    name += "refusal";
    const std::uint32_t tag = reply.empty() ? remember_refusal(error) : remember({Operation::Kind::refusal, error.sqlstate, nullptr, 0, reply});
    worker_.to_server().put_copy(message::close('S', name) + message::parse(name, raise_sql(error)) + message::bind_text("", name, {}) +
                                 message::execute(""));
    replies_.sent({Request::close, Handling::swallow});
    replies_.sent({Request::parse, Handling::swallow});
    replies_.sent({Request::bind, Handling::swallow});
    replies_.sent({Request::execute, Handling::swallow, tag});
}

// The same for a simple Query. `if_valid`: a text that we can't judge; what PostgreSQL has to say against it comes first.
void Session::raise_query(const Error& error, std::string_view if_valid) {
    if (if_valid.empty()) {
        worker_.to_server().put_copy(message::query(raise_sql(error)));
        replies_.sent({Request::query, Handling::forward, remember_refusal(error)});
        return;
    }
    std::string name(server_statement_prefix);
    name += "refusal";
    worker_.to_server().put_copy(message::close('S', name) + message::parse(name, if_valid));
    replies_.sent({Request::close, Handling::swallow});
    replies_.sent({Request::parse, Handling::swallow});
    raise_in_batch(error);
    worker_.to_server().put_copy(message::sync());
    replies_.sent({Request::sync});
}

}  // namespace pgporter
