// Prepared statements of the extended protocol: the client's names, what a server connection has of them, and what it must be given first.
#include "proxy/session/foreign_tenant.hpp"
#include "proxy/session/guarded_statements.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

std::string frame(char type, std::string_view body) {
    const auto header = frame_header(type, static_cast<std::uint32_t>(body.size()));
    return std::string(header.data(), header.size()).append(body);
}

}  // namespace

Session::Step Session::on_parse(std::string_view body, std::string_view whole) {
    Reader reader(body);
    const auto name = reader.cstring();
    std::string_view definition = reader.rest();
    const std::string_view sql = definition.substr(0, definition.find('\0'));
    const ScannedStatement scanned(sql, dialect());
    const StatementTraits& traits = scanned.traits();
    if (!names_in_sql() && (traits.resets_context || !traits.custom_settings.empty())) {
        const auto foreign = turns_to_foreign_tenant(sql, traits, *worker_.snapshot(), standpoint(), dialect());
        if (foreign) return refuse_parse(*foreign);
    }
    // What came before may end the lease: then this one is decided anew.
    if (server_ && names_in_sql() && traits.of_session && replies_.ends_with_ready()) return Step::wait_for_replies;
    const bool is_whole = name && definition.find('\0') != std::string_view::npos;
    if (!server_ && names_in_sql() && is_whole) {
        if (traits.of_session && parse_locally(*name, definition)) return Step::done;
        if (held_.state() == HeldTransaction::State::failed) {
            refuse_locally(client_error::transaction_aborted());
            return Step::done;
        }
    }
    plan_to_give_up(traits.reset_all || traits.discard_all);
    if (!server_ && !try_begin_lease(traits.plain)) return Step::need_server;
    auto guarded = guard_statement(sql, access_, dialect());
    if (!guarded) guarded = doubt_about(sql, traits);
    if (!guarded && traits.discard_all) guarded = guard_discard_all(access_);
    if (guarded) {
        raise_in_batch(*guarded);
        return Step::done;
    }
    if (!name || definition.find('\0') == std::string_view::npos) {
        replies_.sent({Request::parse});  // malformed: PostgreSQL says so
        to_server(whole);
        return Step::done;
    }
    note_types('t', definition.substr(sql.size() + 1));  // whoever declares a type of its database's knows its OID
    std::string translated;
    if (!traits.deallocate_name.empty() && names_.contains(traits.deallocate_name)) {
        // The server knows the statement under our name. What it then says about it is heard in on_reply().
        NamedStatement& named = names_.find(traits.deallocate_name)->second;
        if (const auto trouble = trouble_with_spelling(traits.deallocate_name)) {
            raise_in_batch(*trouble);
            return Step::done;
        }
        const StatementPtr target = statement_here(named);
        ensure_on_server(target);
        deallocating_ = {traits.deallocate_name, target->number};
        translated = "DEALLOCATE " + sql_identifier(target->server_name) + std::string(definition.substr(sql.size()));
        definition = translated;
    }
    if (name->empty()) {
        Operation operation{Operation::Kind::unnamed_parse, {}, nullptr, 0, {}, take_unnamed()};
        unnamed_traits_ = scanned.share();
        unnamed_session_ = names_in_sql() && traits.of_session ? session_statement_of(sql, dialect()) : nullptr;
        if (!unnamed_session_) note_traits(traits);  // else when it is executed
        unnamed_definition_ = worker_.spare_text();
        unnamed_definition_.assign(definition);
        unnamed_share_.resize(memory_account(), definition.size() > uncounted_bytes_max ? definition.size() : 0);
        unnamed_spelling_ = spoken().key;
        unnamed_serial_ = ++last_serial_;
        unnamed_told_.clear();
        unnamed_portal_is_of_unnamed_ = false;
        portal_of_unnamed_.clear();
        server_->unnamed_statement = unnamed_serial_;
        server_->unnamed_parse = {0, worker_.statements().next_parse(), nullptr, nullptr};
        operation.serial = ++unnamed_state_;
        const std::uint32_t tag = remember(std::move(operation));
        unnamed_change_ = {tag, batch_};
        replies_.sent({Request::parse, Handling::forward, tag});
        if (translated.empty()) {
            to_server(whole);
        } else {
            worker_.to_server().put_copy(frame('P', std::string(1, '\0') + translated));
        }
        return Step::done;
    }
    const std::string_view key = statement_key(*name);
    if (is_unsettled(key)) return Step::wait_for_replies;
    if (!names_.contains(key) && names_.size() >= worker_.config().limits.prepared_statements_max) {
        raise_in_batch(client_error::too_many_statements(worker_.config().limits.prepared_statements_max));
        return Step::done;
    }
    return parse_named(key, definition);
}

// A Parse that must not reach the server, answered as PostgreSQL answers a failed one.
Session::Step Session::refuse_parse(const Error& error) {
    if (server_) {  // in the middle of something: a reply of our own has no place there
        end(EndReason::protocol_violation, &error);
        return Step::ended;
    }
    say(client_error::to_message(error, "ERROR"));
    skip_to_sync_ = true;
    return Step::done;
}

Session::Step Session::parse_named(std::string_view name, std::string_view definition) {
    if (const auto known = names_.find(name); known != names_.end()) {
        // PostgreSQL refuses a second statement of that name: let it say so (42P05), under the name that it knows.
        if (const auto trouble = trouble_with_spelling(name)) {
            raise_in_batch(*trouble);
            return Step::done;
        }
        const StatementPtr statement = statement_here(known->second);
        ensure_on_server(statement);
        std::string text;
        const std::size_t mark = begin_message(text, 'P');
        put_cstring(text, statement->server_name);
        text += definition;
        end_message(text, mark);
        const std::uint32_t tag = remember({Operation::Kind::parse_again, std::string(name), statement, statement->number, {}});
        replies_.sent({Request::parse, Handling::forward, tag});
        worker_.to_server().put_copy(text);
        return Step::done;
    }
    const MemoryAccount account = memory_account();
    const std::size_t name_bytes = name.size() + 256;
    // As if nobody else had prepared the same: who has no room for that is close to the bound anyway.
    if (!account.has_room(name_bytes + StatementRegistry::bytes_of(definition))) {
        worker_.shared().memory.count_refusal();
        raise_in_batch(client_error::out_of_memory());
        return Step::done;
    }
    StatementPtr statement = worker_.statements().find_or_create(statement_owner(), definition, spoken(), account, reading_of(definition));
    const auto unsettled = unsettled_statements_.find(statement->number);  // under another name
    if (unsettled != unsettled_statements_.end() && unsettled->second != batch_) return Step::wait_for_replies;
    if (!names_in_sql() || !statement->session) note_traits(statement->traits);
    names_.emplace(std::string(name), NamedStatement{statement, {}, MemoryShare(account, name_bytes), worker_.next_moment()});
    unsettled_names_[std::string(name)] = batch_;
    const std::uint32_t tag = remember({Operation::Kind::name_statement, std::string(name), statement, statement->number, {}});
    // Always: what the text means is decided now. A table may stand in front of another one by now, a function may have come, a type may be a new one.
    if (server_->statements().contains(statement->number)) close_on_server(statement);
    prepare_on_server(statement, Handling::forward, tag);
    return Step::done;
}

// To be prepared anew.
void Session::close_on_server(const StatementPtr& statement) {
    worker_.to_server().put_copy(message::close('S', statement->server_name));
    const std::uint32_t tag = remember({Operation::Kind::evict_from_server, {}, statement, statement->number, {}});
    replies_.sent({Request::close, Handling::swallow, tag});
    server_->statements().remove(statement->number);
}

// Sends the Parse under the server's name, after closing the statements that have to make room. As the statement itself is, whatever this client
// was told: others that have it find it there.
void Session::prepare_on_server(const StatementPtr& statement, Handling handling, std::uint32_t tag) {
    constexpr std::size_t kept_bytes_max = 16'384;
    const StatementPtr kept = statement->definition.size() <= kept_bytes_max ? statement : nullptr;
    StatementCache& cache = server_->statements();
    cache.add(statement->number, worker_.statements().next_parse(), kept, worker_.next_moment());
    while (const auto evicted = cache.evict()) {
        worker_.to_server().put_copy(message::close('S', std::string(server_statement_prefix) + std::to_string(*evicted)));
        const std::uint32_t close_tag = remember({Operation::Kind::evict_from_server, {}, nullptr, *evicted, {}});
        replies_.sent({Request::close, Handling::swallow, close_tag});
    }
    std::string text;
    const std::size_t mark = begin_message(text, 'P');
    put_cstring(text, statement->server_name);
    text += statement->definition;
    end_message(text, mark);
    worker_.to_server().put_copy(text);
    replies_.sent({Request::parse, handling, tag});
}

// `since`: what was parsed before is of no use.
void Session::ensure_on_server(const StatementPtr& statement, ParseMoment since) {
    if (server_->statements().touch(statement->number, since) != nullptr) return;
    if (server_->statements().contains(statement->number)) close_on_server(statement);
    const std::uint32_t tag = remember({Operation::Kind::prepare_on_server, {}, statement, statement->number, {}});
    prepare_on_server(statement, Handling::swallow, tag);
}

// What stands for the client's statement for whom the session speaks now: prepared for another tenant, its plan and its types are not this one's. The
// parameters keep the types that the client was told, as in PostgreSQL; where they have others by themselves, or nobody knows which, those are
// declared, which makes it a statement of its own. Those who prepare the text here share the one that has this tenant's types.
StatementPtr Session::statement_here(NamedStatement& named) {
    StatementRegistry& registry = worker_.statements();
    if (named.statement->owner == statement_owner()) {
        const bool is_there = server_ && server_->statements().touch(named.statement->number, named.since) != nullptr;
        if (is_there || named.statement->is_private || named.statement->reading.empty()) return named.statement;
        // To be parsed here: not under a name that others share who read it otherwise.
        const Reading reading = reading_of(named.statement->definition);
        if (!reading.is_private && reading.text == named.statement->reading) return named.statement;
        named.statement = registry.find_or_create(statement_owner(), named.statement->definition, spoken(), memory_account(), reading);
        return named.statement;
    }
    const StatementPtr parsed = named.as_parsed();
    const Reading reading = reading_of(parsed->definition);
    const bool brings_types = named.told.what && parsed->has_own_shape;
    const std::string declared = brings_types ? with_parameters(parsed->definition, named.told.what->parameters) : std::string();
    StatementPtr here;
    if (brings_types && declared != parsed->definition) {
        here = registry.find(statement_owner(), parsed->definition, spoken(), reading);
        if (here && !(here->last_description && here->last_description->parameters == named.told.what->parameters)) here = nullptr;
    }
    if (!here) here = registry.find_or_create(statement_owner(), brings_types ? declared : parsed->definition, spoken(), memory_account(), reading);
    named.statement = here;
    named.parsed = here == parsed ? nullptr : parsed;
    return here;
}

// The unnamed statement, or its absence.
void Session::ensure_unnamed_on_server() {
    if (server_->unnamed_statement == unnamed_serial_) return;
    UnnamedStatement replaced;
    replaced.serial_on_server = server_->unnamed_statement;
    replaced.state = unnamed_state_;
    if (unnamed_serial_ == 0) {  // what the server has is gone for the client
        const std::uint32_t dropped = remember({Operation::Kind::drop_unnamed, {}, nullptr, 0, {}, std::move(replaced), ++unnamed_state_});
        worker_.to_server().put_copy(message::close('S', ""));
        replies_.sent({Request::close, Handling::swallow, dropped});
        server_->unnamed_statement = 0;
        unnamed_change_ = {dropped, batch_};
        return;
    }
    std::string text;
    const std::size_t mark = begin_message(text, 'P');
    put_cstring(text, "");
    text += unnamed_told_.parameters.empty() ? unnamed_definition_ : with_parameters(unnamed_definition_, unnamed_told_.parameters);
    end_message(text, mark);
    worker_.to_server().put_copy(text);
    const std::uint32_t tag = remember({Operation::Kind::unnamed_parse, {}, nullptr, 0, {}, std::move(replaced), ++unnamed_state_});
    replies_.sent({Request::parse, Handling::swallow, tag});
    server_->unnamed_statement = unnamed_serial_;
    unnamed_change_ = {tag, batch_};
    server_->unnamed_parse = {0, worker_.statements().next_parse(), nullptr, nullptr};
}

// There is no unnamed statement any more.
UnnamedStatement Session::take_unnamed() {
    UnnamedStatement taken{std::move(unnamed_traits_), std::move(unnamed_session_), std::move(unnamed_definition_), unnamed_serial_,
                           server_ ? server_->unnamed_statement : 0, std::move(unnamed_spelling_), std::move(unnamed_told_), unnamed_state_};
    unnamed_serial_ = 0;
    unnamed_spelling_.clear();
    unnamed_told_.clear();
    return taken;
}

// A Query that goes to the server, or Close, drops the unnamed statement. The tag for its request: in an open batch PostgreSQL may skip it.
std::uint32_t Session::drop_unnamed() {
    if (unnamed_serial_ == 0 && server_->unnamed_statement == 0 && !unnamed_change_) return 0;
    const bool may_be_skipped = replies_.has_open_batch();
    UnnamedStatement replaced = take_unnamed();
    server_->unnamed_statement = 0;
    ++unnamed_state_;
    if (!may_be_skipped) return 0;
    const std::uint32_t tag = remember({Operation::Kind::drop_unnamed, {}, nullptr, 0, {}, std::move(replaced), unnamed_state_});
    unnamed_change_ = {tag, batch_};
    return tag;
}

// The name under which the server knows the client's statement, which is there when this returns. An unknown name stays as it is: PostgreSQL
// answers it in the client's own words (a name that looks like ours is changed into one that doesn't exist).
std::string Session::statement_for_server(std::string_view name) {
    if (name.empty()) {
        ensure_unnamed_on_server();
        return {};
    }
    const auto known = names_.find(statement_key(name));
    if (known == names_.end()) {
        return name.starts_with(server_statement_prefix) ? std::string(server_statement_prefix) + "0" : std::string(name);
    }
    const StatementPtr statement = statement_here(known->second);
    ensure_on_server(statement, known->second.since);
    return statement->server_name;
}

// The name under which the server knows it, and whether it is there what the client was told of it.
Session::Fit Session::find_on_server(std::string_view name, std::string& server_name) {
    server_name = statement_for_server(name);
    const Fit fit = fit_of(name);
    if (fit != Fit::is_another) return fit;
    if (is_unsettled(statement_key(name))) return Fit::not_known_yet;
    server_name = statement_for_server(name);
    return fit_of(name);
}

// Of what is used now. Null: nobody knows them, or they count when it is executed, because it is about the session.
const StatementTraits* Session::traits_of(std::string_view statement_name) const {
    if (statement_name.empty()) return unnamed_serial_ != 0 && !unnamed_session_ ? unnamed_traits_.get() : nullptr;
    const auto known = names_.find(statement_key(statement_name));
    if (known == names_.end() || (names_in_sql() && known->second.statement->session)) return nullptr;
    return &known->second.statement->traits;
}

std::string_view Session::text_of_statement(std::string_view statement_name) const {
    std::string_view definition = unnamed_serial_ != 0 ? std::string_view(unnamed_definition_) : std::string_view();
    if (!statement_name.empty()) {
        const auto known = names_.find(statement_key(statement_name));
        definition = known == names_.end() ? std::string_view() : std::string_view(known->second.statement->definition);
    }
    return definition.substr(0, definition.find('\0'));
}

// Equal texts of two tenants are two statements, and so are those under two paths: PostgreSQL would plan them anew at each change, and refuse
// them where the tables that the paths lead to differ.
const std::string& Session::statement_owner() {
    const std::string* named = find_value(named_.view().effective, "search_path");
    const std::string& path = followed_path_ ? *followed_path_ : named != nullptr ? *named : own_state_->search_path;
    if (statement_owner_tenant_ != tenant_name_ || statement_owner_path_ != path || statement_owner_.empty()) {
        statement_owner_tenant_ = tenant_name_;
        statement_owner_path_ = path;
        statement_owner_ = tenant_name_ + '\n' + identity_.user + '\n' + path;
    }
    return statement_owner_;
}

Session::Step Session::on_bind(std::string_view portal, std::string_view statement, std::string_view rest, std::uint32_t body_length) {
    if (!server_) {
        const StatementTraits* traits = traits_of(statement);
        if (!try_begin_lease(traits != nullptr && traits->plain)) return Step::need_server;
    }
    if (is_unsettled(statement_key(statement))) return Step::wait_for_replies;
    std::optional<Error> refused;
    if (refused_naming_) {
        const StatementTraits traits = scan_statement(text_of_statement(statement), dialect());
        if (!traits.gives_up && !traits.reset_all) refused = refused_naming_;
    }
    // It may have been parsed for another tenant.
    if (!refused && (access_.guards_role || access_.guards_setting || access_.is_read_only)) refused = guard_statement(text_of_statement(statement), access_, dialect());
    if (!refused) refused = trouble_with_spelling(statement);
    if (refused || replies_.is_skipping()) {
        if (!replies_.is_skipping()) raise_in_batch(*refused);
        if (partial_ != Partial::none) partial_ = Partial::drop;  // the rest of it is still to come
        return Step::done;
    }
    std::string server_name;
    const Fit fit = find_on_server(statement, server_name);
    if (fit == Fit::not_known_yet) {
        begin_watching_client();  // the answer may wait for a lock
        return Step::wait_for_replies;
    }
    if (fit == Fit::differs) {
        worker_.shared().session_metrics.changed_results.inc();
        worker_.statements().renew(tenant_name_);  // who prepares it again gets what is there now
        raise_in_batch(client_error::changed_result(), client_error::changed_result_message());
        return Step::done;
    }
    // Not before it goes out: a temporary object makes old what was parsed before, this statement too.
    if (const StatementTraits* traits = traits_of(statement)) note_traits(*traits);
    note_portal(portal, statement);
    const auto header = frame_header('B', static_cast<std::uint32_t>(body_length - statement.size() + server_name.size()));
    std::string& out = worker_.to_server().stage();
    out.append(header.data(), header.size());
    put_cstring(out, portal);
    put_cstring(out, server_name);
    to_server(rest);
    replies_.sent({Request::bind});
    return Step::done;
}

Session::Step Session::on_describe(std::string_view body, std::string_view whole) {
    if (const auto step = describe_here(body)) return *step;
    if (!server_ && !try_begin_lease()) return Step::need_server;
    if (body.size() >= 2 && body[0] == 'S') {
        const std::string_view name = body.substr(1, body.find('\0', 1) - 1);
        if (is_unsettled(statement_key(name))) return Step::wait_for_replies;
        if (const auto trouble = trouble_with_spelling(name)) {
            raise_in_batch(*trouble);
            return Step::done;
        }
        std::string server_name;
        const auto known = names_.find(statement_key(name));
        if (known == names_.end() || !known->second.told.what) {
            server_name = statement_for_server(name);
        } else if (find_on_server(name, server_name) == Fit::not_known_yet) {  // behind it, it is used by what was told before
            begin_watching_client();
            return Step::wait_for_replies;
        }
        worker_.to_server().put_copy(message::describe('S', server_name));
    } else {
        to_server(whole);
    }
    replies_.sent({Request::describe, Handling::forward, tag_of_description(body)});
    return Step::done;
}

Session::Step Session::on_close(std::string_view body, std::string_view whole) {
    if (!server_ && close_locally(body)) return Step::done;
    const std::string name = body.size() >= 2 ? std::string(body.substr(1, body.find('\0', 1) - 1)) : std::string();
    if (body.empty() || body[0] != 'S' || name.empty()) {
        if (!server_ && !try_begin_lease()) return Step::need_server;
        if (!body.empty() && body[0] == 'P') portals_.erase(name);
        const std::uint32_t tag = !body.empty() && body[0] == 'S' ? drop_unnamed() : 0;
        replies_.sent({Request::close, Handling::forward, tag});
        to_server(whole);
        return Step::done;
    }
    // The server keeps the statement for the next one who needs it; closing an unknown name is no error either.
    const std::string key(statement_key(name));
    if (is_unsettled(key)) return Step::wait_for_replies;
    Operation operation{Operation::Kind::close_name, key, nullptr, 0, {}};
    if (const auto known = names_.find(key); known != names_.end()) {
        operation.statement = known->second.as_parsed();
        operation.told = known->second.told;
        names_.erase(known);
    }
    if (!server_) {
        say(message::close_complete());
        return Step::done;
    }
    unsettled_names_[key] = batch_;
    const std::uint32_t tag = remember(std::move(operation));
    replies_.sent({Request::close, Handling::simulate, tag});
    say_simulated();
    flush_to_client();
    return Step::done;
}

}  // namespace pgporter
