// Portals of statements about the session. While there is no server connection they are bound, described and run here; one that is still there when
// there is a server connection stays what PostgreSQL would have of it: one that was only bound is bound there too as soon as it is run, one
// that has run is described here, and can't be run again.
#include <algorithm>
#include <utility>

#include "proxy/session/guarded_statements.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

constexpr std::size_t local_portals_max = 1000;

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
    // PostgreSQL refuses another number of result formats than there are columns.
    const bool has_result = statement.verb == SessionVerb::set_config;
    if (has_result && bound.result_formats.size() > 1 && bound.result_formats.size() != statement.changes.size()) return std::nullopt;
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

bool Session::ends_transaction(const SessionStatement& statement) {
    return statement.verb == SessionVerb::commit || statement.verb == SessionVerb::rollback;
}

// A portal of this name is made or closed. PostgreSQL replaces the unnamed one without a word, and no other; of those that are here alone it knows
// nothing. A step: this is how the request ends.
std::optional<Session::Step> Session::replace_portal(std::string_view portal, bool is_known_statement) {
    const auto at = portals_.find(std::string(portal));
    if (at == portals_.end()) return std::nullopt;
    if (portal.empty()) {
        portals_.erase(at);
        return std::nullopt;
    }
    if (at->second.is_on_server) {  // it may be closed there by now
        portals_.erase(at);
        return std::nullopt;
    }
    if (!is_known_statement) return std::nullopt;
    if (server_ && replies_.ends_with_ready()) return Step::wait_for_replies;  // the transaction may end, and all portals with it
    if (!server_ && !try_begin_lease()) return Step::need_server;
    raise_in_batch(fail(ErrorKind::invalid, "cursor \"" + std::string(portal) + "\" already exists", {}, {}, "42P03"));
    return Step::done;
}

// Nullopt: it goes to the server as any other Bind.
std::optional<Session::Step> Session::bind_session_statement(std::string_view portal, std::string_view name, std::string_view rest) {
    const bool is_failed = !server_ && held_.state() == HeldTransaction::State::failed;
    if (!names_in_sql()) return std::nullopt;
    const auto statement = session_statement(name);
    if (statement && server_ && replies_.ends_with_ready()) return Step::wait_for_replies;  // it may be another lease's
    if (!portals_.empty()) {
        if (const auto step = replace_portal(portal, statement || !text_of_statement(name).empty())) return step;
    }
    if (!statement) {
        if (!is_failed) return std::nullopt;
        refuse_locally(client_error::transaction_aborted());
        return Step::done;
    }
    auto bound = parse_bind(rest, *statement);
    const std::string_view definition = definition_of(name);
    const auto types = parameter_types(*statement, definition.substr(definition.find('\0') + 1));
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
        const Error error =
            fail(ErrorKind::limit, "too many portals of statements about the session are open", {}, "close them, or send Sync", "53400");
        end(EndReason::limit, &error);
        return Step::ended;
    }
    Portal made{statement, changes.value_or(std::vector<ResolvedChange>{}), bound ? bound->result_formats : std::vector<std::uint16_t>{}};
    made.depth = named_.savepoints();
    if (!server_) {
        if (is_failed && !ends_transaction(*statement) && statement->verb != SessionVerb::rollback_to) {
            refuse_locally(client_error::transaction_aborted());
            return Step::done;
        }
        if (changes && held_.performs(*statement, *changes, worker_.config().identify, named_)) {
            made.definition = definition;
            made.values = rest;
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
        plan_to_give_up(statement->verb == SessionVerb::reset_all || statement->verb == SessionVerb::discard_all);
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

// Nullopt: it goes to the server as any other Execute.
std::optional<Session::Step> Session::execute_session_statement(std::string_view body) {
    const bool is_failed = !server_ && held_.state() == HeldTransaction::State::failed;
    if (portals_.empty() && !is_failed) return std::nullopt;
    Reader reader(body);
    const auto name = reader.cstring();
    const auto rows_max = reader.u32();
    if (!name || !rows_max || !reader.empty()) return std::nullopt;
    const auto at = portals_.find(std::string(*name));
    if (at == portals_.end()) {
        if (!is_failed) return std::nullopt;
        refuse_locally(client_error::transaction_aborted());
        return Step::done;
    }
    Portal& portal = at->second;
    if (!portal.is_on_server) {
        if (!server_) {
            if (const auto step = execute_here(portal, *rows_max)) return step;
            if (!portal.has_run && !portal.changes.empty()) {
                const Result<void> planned = plan_binding(portal.changes);
                if (!planned) {
                    refuse_locally(planned.error());
                    return Step::done;
                }
            }
            if (!try_begin_lease()) return Step::need_server;
        }
        if (replies_.ends_with_ready()) return Step::wait_for_replies;  // the transaction may end, and all portals with it
        if (portal.has_run) {
            run_again(*name, portal);
            return Step::done;
        }
        if (!bind_on_server(*name, portal)) return Step::done;
    }
    if (!server_) return std::nullopt;
    const bool is_end = ends_transaction(*portal.statement) && !portal.statement->chain;
    const Result<void> noted = note_session_statement(*portal.statement, portal.changes, is_end ? Behind::nothing : Behind::batch);
    has_barrier_ |= !portal.changes.empty();
    if (noted) {
        if (is_end) ended_statement_ = portal.statement;
        if (ends_transaction(*portal.statement)) {  // whatever was bound before
            portals_.erase_if([](const auto& entry) { return !entry.second.is_on_server; });
        } else {
            note_savepoint_of_portals(*portal.statement);
        }
        return std::nullopt;
    }
    const bool would_last = replies_.status() == 'I';
    raise_in_batch(noted.error());
    if (would_last) {  // unless PostgreSQL has something else against this batch
        naming_in_doubt_ = std::pair(last_tag_, noted.error());
        has_barrier_ = true;
    }
    return Step::done;
}

// Nullopt: it takes a server.
std::optional<Session::Step> Session::execute_here(Portal& portal, std::uint32_t rows_max) {
    if (portal.has_run) {
        if (portal.statement->verb != SessionVerb::set_config) return std::nullopt;  // can't be run twice
        say(message::command_complete("SELECT 0"));
        return Step::done;
    }
    if (access_.is_read_only) {
        const std::string_view sql = std::string_view(portal.definition).substr(0, portal.definition.find('\0'));
        if (const auto writes = guard_statement(sql, access_, dialect())) {
            refuse_locally(*writes);
            return Step::done;
        }
    }
    if (held_.state() == HeldTransaction::State::none) named_.begin();  // until Sync
    const ScopedSettings::View before = named_.view();
    HeldTransaction::Answer answer = held_.perform(*portal.statement, portal.changes, world(), named_);
    if (answer.kind == HeldTransaction::Answer::Kind::needs_server) return std::nullopt;  // the transaction is another one than at Bind
    if (answer.kind == HeldTransaction::Answer::Kind::refused) {
        const std::vector<ResolvedChange> refused = std::move(portal.changes);  // the portal ends here
        refuse_locally(answer.error);
        keep_refused_naming(refused);
        return Step::done;
    }
    if (!portal.statement->changes.empty() || named_.view() != before) named_changed(before);
    std::string text = warning_message(answer);
    if (!answer.row.empty()) text += message::data_row({answer.row.begin(), answer.row.end()});
    if (rows_max == 1 && !answer.row.empty()) {
        const auto suspended = frame_header('s', 0);
        text.append(suspended.data(), suspended.size());
    } else {
        text += message::command_complete(answer.tag);
    }
    say(text);
    portal.has_run = true;
    const std::shared_ptr<const SessionStatement> statement = portal.statement;  // `portal` may end here
    if (ends_transaction(*statement)) portals_.clear();
    note_savepoint_of_portals(*statement);
    return Step::done;
}

// Behind the end of a transaction something else comes in the same batch: only then does it matter whose data is seen there.
void Session::go_on_behind_end(char type) {
    if (!ended_statement_ || type == 'H' || type == 'C') return;
    const std::shared_ptr<const SessionStatement> ended = std::exchange(ended_statement_, nullptr);
    if (type == 'S' || !server_) return;
    note_end_of_transaction(*ended, Behind::batch);
    send_to_follow();
}

// What was bound behind a savepoint ends when the transaction goes back to it; when it is released, it belongs to what is around it.
void Session::note_savepoint_of_portals(const SessionStatement& statement) {
    const std::size_t depth = named_.savepoints();
    if (statement.verb == SessionVerb::rollback_to && depth > 0) {
        portals_.erase_if([&](const auto& entry) { return !entry.second.is_on_server && entry.second.depth >= depth; });
    } else if (statement.verb == SessionVerb::release) {
        for (auto& [name, portal] : portals_) portal.depth = std::min(portal.depth, depth);
    }
}

// It has run without a server, and there is one now.
void Session::run_again(std::string_view name, const Portal& portal) {
    if (portal.statement->verb != SessionVerb::set_config) {
        raise_in_batch(fail(ErrorKind::invalid, "portal \"" + std::string(name) + "\" cannot be run", {}, {}, "55000"));
        return;
    }
    if (replies_.status() == 'E') {
        raise_in_batch(client_error::transaction_aborted());
        return;
    }
    answer_in_turn(Request::execute, message::command_complete("SELECT 0"));
}

// A portal that was bound without a server is run where there is one. False: it may not be.
bool Session::bind_on_server(std::string_view name, Portal& portal) {
    std::optional<Error> refused = refused_naming_;
    if (!refused) refused = guard_statement(std::string_view(portal.definition).substr(0, portal.definition.find('\0')), access_, dialect());
    if (!refused && replies_.status() == 'E') refused = client_error::transaction_aborted();
    if (refused) {
        raise_in_batch(*refused);
        return false;
    }
    const StatementPtr statement =
        worker_.statements().find_or_create(statement_owner(), portal.definition, spoken(), memory_account(), reading_of(portal.definition));
    ensure_on_server(statement);
    const auto header = frame_header('B', static_cast<std::uint32_t>(name.size() + statement->server_name.size() + 2 + portal.values.size()));
    std::string text(header.data(), header.size());
    put_cstring(text, name);
    put_cstring(text, statement->server_name);
    worker_.to_server().put_copy(text + portal.values);
    replies_.sent({Request::bind, Handling::swallow});
    portal.is_on_server = true;
    return true;
}

// Nullopt: the server has to say what it is.
std::optional<Session::Step> Session::describe_here(std::string_view body) {
    if (body.size() < 2 || body.back() != '\0') return std::nullopt;
    const std::string_view name = body.substr(1, body.size() - 2);
    if (body[0] == 'S') {
        if (!server_) return describe_statement_here(name) ? std::optional(Step::done) : std::nullopt;
        // In a transaction that has failed PostgreSQL describes it still, and takes no Parse of it.
        if (replies_.status() != 'E' || replies_.ends_with_ready()) return std::nullopt;
        const auto statement = session_statement(name);
        if (!statement || statement->verb == SessionVerb::set_config) return std::nullopt;
        const auto text = description_of_statement(name);
        if (!text) return std::nullopt;
        answer_in_turn(Request::describe, *text);
        return Step::done;
    }
    const auto at = portals_.find(std::string(name));
    if (at == portals_.end() || at->second.is_on_server) return std::nullopt;
    const Portal& portal = at->second;
    if (!server_) {
        say(row_description_of(*portal.statement, portal.result_formats));
        return Step::done;
    }
    if (replies_.ends_with_ready()) return Step::wait_for_replies;  // the transaction may end, and all portals with it
    if (replies_.status() == 'E' && portal.statement->verb == SessionVerb::set_config) {
        raise_in_batch(client_error::transaction_aborted());
    } else {
        answer_in_turn(Request::describe, row_description_of(*portal.statement, portal.result_formats));
    }
    return Step::done;
}

// Our own answer to a request that the server never sees, when its turn comes.
void Session::answer_in_turn(Request request, std::string text) {
    const std::uint32_t tag = remember({Operation::Kind::local_answer, {}, nullptr, 0, std::move(text)});
    if (!replies_.sent({request, Handling::simulate, tag})) return;
    say_simulated();
    flush_to_client();
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

bool Session::is_portal_of_session(std::string_view execute_body) const {
    return !portals_.empty() && portals_.contains(std::string(execute_body.substr(0, execute_body.find('\0'))));
}

}  // namespace pgporter
