// Statements about the session in the extended protocol. While there is no server connection they are parsed, described, bound and executed
// here, with the answers that PostgreSQL gives; where the server must see one, what it names is known when its parameters are bound.
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
constexpr std::size_t local_portals_max = 1000;

bool is_textual(std::uint32_t oid) {
    constexpr std::uint32_t unknown_oid = 705;
    constexpr std::uint32_t varchar_oid = 1043;
    return oid == 0 || oid == text_oid || oid == unknown_oid || oid == varchar_oid;
}

// The type of each parameter, as PostgreSQL finds it out. Nullopt: it would refuse the types that the client declared, or they differ
// from one place to the next.
std::optional<std::vector<std::uint32_t>> parameter_types(const SessionStatement& statement, std::string_view declarations) {
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

// The parameter values of a Bind, behind its names; booleans in binary become text. Nullopt: malformed, or a format that isn't known.
struct BoundValues {
    BindValues values;
    std::vector<std::uint16_t> result_formats;
};

std::optional<BoundValues> parse_bind(std::string_view rest, const SessionStatement& statement) {
    Reader reader(rest);
    std::vector<std::uint16_t> formats;
    const auto take_formats = [&](std::vector<std::uint16_t>& into) {
        const auto count = reader.u16();
        if (!count) return false;
        for (std::uint16_t i = 0; i < *count; ++i) {
            const auto format = reader.u16();
            if (!format || *format > 1) return false;
            into.push_back(*format);
        }
        return true;
    };
    if (!take_formats(formats)) return std::nullopt;
    const auto count = reader.u16();
    if (!count || (formats.size() > 1 && formats.size() != *count)) return std::nullopt;
    BoundValues bound;
    for (std::uint16_t i = 0; i < *count; ++i) {
        const auto length = reader.u32();
        if (!length) return std::nullopt;
        if (*length == 0xffffffffU) {
            bound.values.emplace_back();
            continue;
        }
        const auto bytes = reader.bytes(*length);
        if (!bytes || bytes->find('\0') != std::string_view::npos) {
            const bool may_be_flag = bytes && bytes->size() == 1;
            if (!may_be_flag) return std::nullopt;
        }
        bound.values.emplace_back(*bytes);
    }
    if (!take_formats(bound.result_formats) || !reader.empty()) return std::nullopt;
    for (const SettingChange& change : statement.changes) {
        if (change.local.kind != SettingOperand::Kind::parameter || change.local.parameter > bound.values.size()) continue;
        const std::size_t at = change.local.parameter - 1U;
        const bool is_binary = !formats.empty() && (formats.size() == 1 ? formats[0] : formats[at]) == 1;
        std::optional<std::string>& value = bound.values[at];
        if (!value) continue;
        if (is_binary) {
            if (value->size() != 1) return std::nullopt;
            value = value->front() != 0 ? "true" : "false";
        } else {
            const std::string text = folded(*value);
            const bool is_true = text == "t" || text == "true" || text == "on" || text == "yes" || text == "y" || text == "1";
            const bool is_false = text == "f" || text == "false" || text == "off" || text == "no" || text == "n" || text == "0";
            if (!is_true && !is_false) return std::nullopt;
            value = is_true ? "true" : "false";
        }
    }
    return bound;
}

}  // namespace

std::shared_ptr<const SessionStatement> Session::session_statement(std::string_view statement_name) const {
    if (statement_name.empty()) return unnamed_serial_ != 0 ? unnamed_session_ : nullptr;
    const auto known = names_.find(statement_key(statement_name));
    return known == names_.end() ? nullptr : known->second.statement->session;
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
        names_.emplace(std::string(key), NamedStatement{worker_.statements().find_or_create(statement_owner(), definition, spoken()), {}});
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

bool Session::describe_locally(std::string_view body) {
    if (body.size() < 2 || body.back() != '\0') return false;
    const std::string_view name = body.substr(1, body.size() - 2);
    if (body[0] == 'S') {
        const auto statement = session_statement(name);
        if (!statement || statement->needs_server || statement->verb == SessionVerb::other) return false;
        const std::string& definition = name.empty() ? unnamed_definition_ : names_.find(statement_key(name))->second.statement->definition;
        const auto types = parameter_types(*statement, std::string_view(definition).substr(definition.find('\0') + 1));
        if (!types) return false;
        say(message::parameter_description(*types) + row_description_of(*statement, {}));
        return true;
    }
    const auto portal = portals_.find(std::string(name));
    if (portal == portals_.end() || portal->second.is_on_server) return false;
    say(row_description_of(*portal->second.statement, portal->second.result_formats));
    return true;
}

bool Session::close_locally(std::string_view body) {
    if (body.size() < 2 || body.back() != '\0') return false;
    const std::string name(body.substr(1, body.size() - 2));
    if (body[0] == 'P') {
        portals_.erase(name);
    } else if (body[0] == 'S' && name.empty()) {
        unnamed_serial_ = 0;
    } else {
        return false;
    }
    say(message::close_complete());
    return true;
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

// Nullopt: it goes to the server as any other Bind.
std::optional<Session::Step> Session::bind_session_statement(std::string_view portal, std::string_view name, std::string_view rest) {
    const bool is_failed = !server_ && held_.state() == HeldTransaction::State::failed;
    if (!names_in_sql()) return std::nullopt;
    portals_.erase(std::string(portal));
    const auto statement = session_statement(name);
    if (statement && server_ && replies_.ends_with_ready()) return Step::wait_for_replies;  // it may be another lease's
    if (!statement) {
        if (!is_failed) return std::nullopt;
        refuse_locally(client_error::transaction_aborted());
        return Step::done;
    }
    auto bound = parse_bind(rest, *statement);
    const std::string& definition = name.empty() ? unnamed_definition_ : names_.find(statement_key(name))->second.statement->definition;
    const auto types = parameter_types(*statement, std::string_view(definition).substr(definition.find('\0') + 1));
    // PostgreSQL refuses another number of values than there are parameters.
    const bool fits = bound && (statement->needs_server || !types || types->size() == bound->values.size());
    const auto changes = fits ? resolve(*statement, bound->values) : std::nullopt;
    if (changes && has_unreadable_naming(*changes)) {
        const Error error = is_failed ? client_error::transaction_aborted() : client_error::unreadable_naming();
        if (server_) {
            raise_in_batch(error);
        } else {
            refuse_locally(error);
        }
        return Step::done;
    }
    if (portals_.size() >= local_portals_max) {
        const Error error = fail(ErrorKind::limit, "too many portals of statements about the session are open", {}, "close them, or send Sync", "53400");
        end(EndReason::limit, &error);
        return Step::ended;
    }
    Portal made{statement, changes.value_or(std::vector<ResolvedChange>{}), bound ? bound->result_formats : std::vector<std::uint16_t>{}};
    if (!server_) {
        if (changes && held_.performs(*statement, *changes, worker_.config().identify, named_)) {
            portals_[std::string(portal)] = std::move(made);
            say(message::bind_complete());
            return Step::done;
        }
        if (is_failed) {
            refuse_locally(client_error::transaction_aborted());
            return Step::done;
        }
        if (changes) {
            const Result<void> planned = plan_binding(*changes);
            if (!planned) {
                refuse_locally(planned.error());
                return Step::done;
            }
        }
        if (!try_begin_lease()) return Step::need_server;
    }
    if (!changes) {
        const bool is_list = std::any_of(statement->changes.begin(), statement->changes.end(),
                                         [](const SettingChange& change) { return change.name.kind == SettingOperand::Kind::pairs; });
        if (is_list && bound) {
            raise_in_batch(client_error::computed_setting("search_path"));
            return Step::done;
        }
        state_is_suspect_ = true;  // PostgreSQL refuses these values; if it doesn't, it is asked what is true then
    }
    made.is_on_server = true;
    portals_[std::string(portal)] = std::move(made);
    return std::nullopt;
}

std::optional<Session::Step> Session::execute_session_statement(std::string_view body) {
    if (portals_.empty() && (server_ || held_.state() != HeldTransaction::State::failed)) return std::nullopt;
    Reader reader(body);
    const auto name = reader.cstring();
    const auto rows_max = reader.u32();
    if (!name || !rows_max || !reader.empty()) return std::nullopt;
    const auto at = portals_.find(std::string(*name));
    if (at == portals_.end()) {
        if (server_ || held_.state() != HeldTransaction::State::failed) return std::nullopt;
        refuse_locally(client_error::transaction_aborted());
        return Step::done;
    }
    Portal& portal = at->second;
    if (portal.is_on_server) {
        if (!server_) return std::nullopt;
        const Result<void> noted = note_session_statement(*portal.statement, portal.changes);
        has_barrier_ |= !portal.changes.empty();
        if (noted) return std::nullopt;
        if (replies_.status() == 'I') note_refused_naming(noted.error());
        raise_in_batch(noted.error());
        return Step::done;
    }
    if (server_) return std::nullopt;  // the server never heard of this portal, and says so
    if (portal.is_exhausted) {
        say(message::command_complete("SELECT 0"));
        return Step::done;
    }
    if (held_.state() == HeldTransaction::State::none) named_.begin();  // until Sync
    const ScopedSettings::View before = named_.view();
    HeldTransaction::Answer answer = held_.perform(*portal.statement, portal.changes, world(), named_);
    if (answer.kind == HeldTransaction::Answer::Kind::needs_server) {  // the transaction is another one than at Bind
        refuse_locally(fail(ErrorKind::not_found, "portal \"" + std::string(*name) + "\" does not exist", {}, {}, "34000"));
        return Step::done;
    }
    if (answer.kind == HeldTransaction::Answer::Kind::refused) {
        const std::vector<ResolvedChange> refused = std::move(portal.changes);  // the portal ends here
        refuse_locally(answer.error);
        keep_refused_naming(refused);
        return Step::done;
    }
    if (!portal.statement->changes.empty() || named_.view() != before) named_changed(before);
    std::string text = warning_message(answer);
    if (!answer.row.empty()) text += message::data_row({answer.row.begin(), answer.row.end()});
    portal.is_exhausted = !answer.row.empty();
    if (*rows_max == 1 && portal.is_exhausted) {
        const auto suspended = frame_header('s', 0);
        text.append(suspended.data(), suspended.size());
    } else {
        text += message::command_complete(answer.tag);
    }
    say(text);
    return Step::done;
}

bool Session::is_portal_of_session(std::string_view execute_body) const {
    return !portals_.empty() && portals_.contains(std::string(execute_body.substr(0, execute_body.find('\0'))));
}

// A request of an extended batch that fails without a server: what follows is skipped up to Sync.
void Session::refuse_locally(const Error& error) {
    held_.fail(named_);
    binding_.reset();
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
