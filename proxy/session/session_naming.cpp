// The tenant in SQL. While the session has no server connection, statements about tenants and transactions are answered here
// (HeldTransaction); with one they are passed on, and what they set is followed. In both cases nobody is asked whose data a statement may
// see but the catalog: a tenant that the session may not be served for is refused before the statement goes out.
#include <algorithm>

#include "catalog/allowed_addresses.hpp"
#include "proxy/session/guarded_statements.hpp"
#include "proxy/session/session.hpp"
#include "proxy/session/set_statement.hpp"
#include "proxy/session/tenant_context.hpp"
#include "router/sql_lexer.hpp"
#include "proxy/wire/messages.hpp"
#include "router/search_path.hpp"

namespace pgporter {
namespace {

// What is followed statement by statement is no tangle; what takes settings back, within one Query, is.
bool ends_something(const SessionStatement& statement) {
    return statement.verb == SessionVerb::commit || statement.verb == SessionVerb::rollback || statement.verb == SessionVerb::rollback_to ||
           statement.verb == SessionVerb::release;
}

// The text with as many blanks instead of its beginning: positions in errors stay what they are.
std::string blanked(std::string_view sql, std::size_t count) {
    std::string text;
    text.reserve(sql.size());
    for (std::size_t i = 0; i < count; ++i) {
        const bool continues_character = (static_cast<unsigned char>(sql[i]) & 0xC0U) == 0x80U;
        if (!continues_character) text += sql[i] == '\n' ? '\n' : ' ';
    }
    return text.append(sql.substr(count));
}

}  // namespace

std::string Session::warning_message(const HeldTransaction::Answer& answer) {
    if (!answer.warning) return {};
    std::string text = client_error::to_message(*answer.warning, "WARNING");
    text.front() = 'N';
    return text;
}

const User* Session::user_entry(const std::string& user) const {
    if (listener_->config.auth == ClientAuth::trust) return nullptr;
    if (const User* entry = worker_.snapshot()->find_user(user)) return entry;
    const auto& auth_query = worker_.config().auth_query;
    if (auth_query && auth_query->tenants == AuthQueryTenants::all) return nullptr;
    stranger_.made().name = user;
    return &*stranger_;
}

HeldTransaction::World Session::world() const {
    const auto& home = worker_.config().home;
    Asker asker{user_entry(), identity_.tenant, tenant_name_, {}, {}};
    if (pool_) {
        asker.cluster = pool_->key().address.cluster;
        asker.database = pool_->key().database;
    } else if (home) {
        asker.cluster = home->cluster;
        asker.database = home->database;
    }
    return {worker_.config().identify, *worker_.snapshot(), asker};
}

// What a tenant and the login ask for, before anything was set by SQL. `tenant` null: nobody's.
Context Session::startup_state(const Tenant* tenant, const Access& access) const {
    Context state;
    put_setting(state.settings, "application_name", "");
    if (tenant != nullptr) {
        state.role = access.role;
        state.search_path = search_path_of(*tenant);
        for (const auto& [name, value] : tenant->settings) put_setting(state.settings, name, value);
    }
    // What the login said about its own tenant holds for nobody else.
    const bool is_login_tenant = (tenant != nullptr ? tenant->name : std::string_view()) == identity_.tenant;
    for (const auto& [name, value] : identity_.settings) {
        if (same_name(name, "search_path")) {
            if (!is_login_tenant && !state.search_path.empty()) continue;
            state.search_path = value;
            state.has_empty_path = value.empty();
        } else if (same_name(name, "client_encoding") && is_utf8_name(value)) {
            continue;  // what server connections have anyway
        } else if (is_login_tenant || !names_tenants(worker_.config().identify, folded(name))) {
            put_setting(state.settings, name, value);
        }
    }
    keep_access(state, access);
    return state;
}

// What named nobody at login, because its user may not speak for whom it names or nobody is called so, is judged as SQL that sets it would be:
// it is going to be set.
Result<void> Session::check_startup_naming(const Settings& asked, const Asker& asker) const {
    const IdentifyConfig& config = worker_.config().identify;
    if (asker.user == nullptr || asker.user->all_tenants) return {};
    for (const auto& [name, value] : asked) {
        const std::string setting = folded(name);
        if (setting != "search_path" && !(config.sql && names_tenants(config, setting))) continue;
        const Result<std::string> named = tenant_named_by(config, *worker_.snapshot(), asker, setting, value);
        if (!named) return named.error();
    }
    return {};
}

SessionContextPtr Session::session_state() const {
    const bool is_held_back = held_.state() == HeldTransaction::State::open;
    const ScopedSettings::Values& named = is_held_back ? named_.committed() : named_.view().persistent;
    if (!own_.role && own_.settings.empty() && named.empty()) return startup_state_;
    Context state = *startup_state_;
    if (own_.role) state.role = *own_.role;
    for (const auto& [name, value] : own_.settings) put_setting(state.settings, name, value);
    for (const auto& [name, value] : named) {
        if (name == "search_path") {
            state.search_path = value;
            state.has_empty_path = value.empty();
        } else {
            put_setting(state.settings, name, value);
        }
    }
    keep_access(state, access_);  // last: nothing that the client asked for replaces it
    return std::make_shared<const SessionContext>(state);
}

void Session::named_changed(const ScopedSettings::View& before) {
    refused_naming_.reset();
    must_set_again_ = true;
    route_is_stale_ |= named_.view() != before;  // set to what it was: the route and the context are the same
}

// Back to what the login began with. What nobody saw being changed goes back as well: the server connection's context is made anew.
void Session::reset_named() {
    named_.reset();
    refused_naming_.reset();
    context_.reset();
    route_is_stale_ = true;
}

bool Session::is_the_logins() const {
    return !identity_.tenant.empty() && named_.is_empty();
}

// PostgreSQL would have let the session turn to that tenant. A client that takes no notice of our refusal must not read on as the tenant
// before: what needs a server is refused until somebody is named. What PostgreSQL's own SET would refuse changes nothing, and who logged in
// for one tenant, and named nobody else since, stays that one's.
void Session::note_refused_naming(const Error& error) {
    if (is_pinned() || !is_the_logins()) refused_naming_ = error;
}

// The same where the value is known and no server has the session: it counts as set, with PostgreSQL's rules of scope.
void Session::keep_refused_naming(const std::vector<ResolvedChange>& changes) {
    if (held_.state() != HeldTransaction::State::none || is_the_logins()) return;
    named_.begin();
    for (const ResolvedChange& change : changes) {
        if (change.value && !change.is_local) named_.change(change.name, change.value, false);
    }
    named_.commit();
    route_is_stale_ = true;
}

// Statements that need no server, from the first one on. PostgreSQL parses all of a Query before it runs any of it: where one of several needs the
// server, all of them go there, if what stands in front can be said there as well.
Session::Held Session::answer_held(const std::vector<SessionStatement>& statements) {
    const bool is_first = answered_ == 0 && statements.size() > 1;
    std::optional<Before> before;
    if (is_first) before = Before{held_, named_, must_set_again_, route_is_stale_, refused_naming_, portals_};
    std::string text;
    const Held held = answer_held(statements, text);
    if (held == Held::needs_server && before && may_go_along(statements, before->named)) {
        held_ = before->held;
        named_ = before->named;
        must_set_again_ = before->must_set_again;
        route_is_stale_ = before->route_is_stale;
        refused_naming_ = before->refused_naming;
        portals_ = before->portals;
        answered_ = 0;
        return held;
    }
    if (held == Held::refused) {
        if (!text.empty()) say(text);
        refuse_query(*refused_held_);
        keep_refused_naming(refused_changes_);
    } else if (!text.empty()) {
        say(text);
    }
    return held;
}

Session::Held Session::answer_held(const std::vector<SessionStatement>& statements, std::string& text) {
    if (statements.size() > 1) named_.begin();  // they succeed or fail together
    for (; answered_ < statements.size(); ++answered_) {
        const SessionStatement& statement = statements[answered_];
        const auto changes = resolve(statement, {});
        if (!changes) return Held::needs_server;
        const ScopedSettings::View before = named_.view();
        HeldTransaction::Answer answer = held_.perform(statement, *changes, world(), named_);
        if (answer.kind == HeldTransaction::Answer::Kind::needs_server) return Held::needs_server;
        if (answer.kind == HeldTransaction::Answer::Kind::refused) {
            refused_held_ = answer.error;
            refused_changes_ = *changes;
            return Held::refused;
        }
        if (ends_transaction(statement)) portals_.clear();
        note_savepoint_of_portals(statement);
        if (!statement.changes.empty() || named_.view() != before) named_changed(before);
        text += warning_message(answer);
        if (!answer.row.empty()) {
            std::vector<message::TextColumn> columns;
            for (const SettingChange& change : statement.changes) columns.push_back({change.column});
            text += message::row_description(columns) + message::data_row({answer.row.begin(), answer.row.end()});
        }
        text += message::command_complete(answer.tag);
    }
    return Held::answered;
}

// May the statements that were answered here go to the server with the rest of their Query? What they set must hold there as it does here: no
// end of a transaction between (the server goes back to its own context there), nothing that goes back to the session's beginning.
bool Session::may_go_along(const std::vector<SessionStatement>& statements, const ScopedSettings& before) const {
    bool has_changes = before.has_uncommitted() || before.view().effective != before.view().persistent;
    bool has_end = false;
    for (std::size_t i = 0; i < answered_; ++i) {
        const SessionStatement& statement = statements[i];
        has_end |= ends_transaction(statement) || statement.verb == SessionVerb::rollback_to || statement.verb == SessionVerb::release;
        for (const SettingChange& change : statement.changes) {
            has_changes = true;
            if (change.value.kind == SettingOperand::Kind::null) return false;
        }
    }
    return !has_end || !has_changes;
}

// A Query that fails without a server.
void Session::refuse_query(const Error& error) {
    held_.fail(named_);
    answered_ = 0;
    binding_.reset();
    misplaced_.reset();
    route_is_stale_ = true;
    say(client_error::to_message(error, "ERROR") + message::ready_for_query(held_.status()));
}

// Whose lease does what follows need? Decided with what it sets itself, before the first statement that may read something.
Result<void> Session::plan_binding(const std::vector<SessionStatement>& statements, std::size_t from) {
    ScopedSettings after = named_;
    after.begin();
    bool changed = false;
    for (std::size_t i = from; i < statements.size(); ++i) {
        const SessionStatement& statement = statements[i];
        if (statement.verb == SessionVerb::other) break;
        const auto changes = resolve(statement, {});
        if (!changes) break;
        for (const ResolvedChange& change : *changes) {
            if (!names_tenants(worker_.config().identify, change.name)) continue;
            if (change.is_local && statements.size() == 1 && held_.state() == HeldTransaction::State::none) continue;  // over as soon as it is said
            after.change(change.name, change.value, change.is_local);
            changed = true;
        }
    }
    if (changed) binding_ = after.view().effective;
    return {};
}

// SET to what is set already, in words that were understood before: a client that names its tenant again before each request. Nothing changes
// but that it is to be set again; whom it names was decided with the route, which still holds. False: it takes a closer look.
bool Session::answer_known_set(std::string_view sql) {
    const bool may_be_set = sql.size() > 3 && (sql[0] | 0x20) == 's' && (sql[1] | 0x20) == 'e' && (sql[2] | 0x20) == 't';
    if (!may_be_set || server_ || !names_in_sql() || held_.state() != HeldTransaction::State::none || answered_ != 0 || binding_) return false;
    const KnownSet* known = worker_.known_sets().find(sql);
    if (known == nullptr || named_.in_transaction()) return false;
    const SnapshotPtr& snapshot = worker_.snapshot();
    if (!has_route_ || route_is_stale_ || refused_naming_ || snapshot == nullptr || route_version_ != snapshot->version()) return false;
    const std::string* value = find_value(named_.view().persistent, known->name);
    if (value == nullptr || *value != known->value || named_.view().effective != named_.view().persistent) return false;
    unnamed_serial_ = 0;
    portals_.erase(std::string());
    must_set_again_ = true;
    static const std::string answer = message::command_complete("SET") + message::ready_for_query('I');
    say(answer);
    return true;
}

// A simple Query with statements about the session or its transaction, or any in a held transaction that has failed.
Session::Step Session::on_session_query(std::string_view sql) {
    const std::vector<SessionStatement> statements = recognise(sql, dialect());
    // What came before may end the lease: then this one is decided anew.
    if (server_ && answered_ == 0 && replies_.ends_with_ready()) return Step::wait_for_replies;
    if (server_) return forward_session_query(sql, statements);
    if (!depends_on_dialect(sql)) worker_.known_sets().note(sql, statements);
    unnamed_serial_ = 0;
    if (!statements.empty()) portals_.erase(std::string());
    if (const auto writes = access_.is_read_only ? guard_statement(sql, access_, dialect()) : std::nullopt) {
        refuse_query(*writes);
        return Step::done;
    }
    const Held held = answer_held(statements);
    if (held == Held::refused) return end_reason_ == EndReason::none ? Step::done : Step::ended;
    if (held == Held::answered) {
        held_.end_implicit(named_);
        if (held_.state() == HeldTransaction::State::none) portals_.clear();
        answered_ = 0;
        say((statements.empty() ? message::empty_query_response() : std::string()) + message::ready_for_query(held_.status()));
        return Step::done;
    }
    const Result<void> planned = plan_binding(statements, answered_);
    if (!planned) {
        refuse_query(planned.error());
        return Step::done;
    }
    if (!try_begin_lease()) return Step::need_server;
    return forward_session_query(sql, statements);
}

// Passed on, without what was answered already.
Session::Step Session::forward_session_query(std::string_view sql, const std::vector<SessionStatement>& statements) {
    const std::size_t from = std::exchange(answered_, 0);
    bool of_transaction = false;
    bool has_changes = false;
    auto guarded = guard_statement(sql, access_, dialect());
    if (!guarded) guarded = doubt_about(sql, scan_statement(sql, dialect()));
    if (guarded) {
        raise_query(*guarded);
        return Step::done;
    }
    for (std::size_t i = from; i < statements.size(); ++i) {
        const SessionStatement& statement = statements[i];
        const auto changes = resolve(statement, {});
        const Behind behind = i + 1 < statements.size() ? Behind::query : Behind::nothing;
        const bool is_over_at_once = statements.size() == 1 && replies_.status() == 'I' && changes && !changes->empty() &&
                                     std::all_of(changes->begin(), changes->end(), [](const ResolvedChange& change) { return change.is_local; });
        Result<void> noted = changes && !is_over_at_once ? note_session_statement(statement, *changes, behind) : Result<void>{};
        if (!noted) {
            const bool is_in_doubt = statements.size() == 1 && !statement.computed.empty();
            const bool would_last = replies_.status() == 'I';
            raise_query(noted.error(), is_in_doubt ? sql : std::string_view());
            if (would_last && is_in_doubt) {
                naming_in_doubt_ = std::pair(last_tag_, noted.error());
                has_barrier_ = true;
            } else if (would_last) {
                note_refused_naming(noted.error());
            }
            return Step::done;
        }
        of_transaction |= ends_something(statement);
        has_changes |= !statement.changes.empty();
    }
    has_barrier_ |= has_changes || !named_.is_empty();
    if (!statements.empty()) portals_.erase(std::string());
    const std::uint32_t tag = drop_unnamed();
    if (statements.size() - from > 1 && of_transaction && has_changes) state_is_suspect_ = true;  // too tangled to be followed
    if (from == 0 && statements.size() == 1) {
        const StatementTraits traits = scan_statement(sql, dialect());
        const bool is_naming = names_tenants(worker_.config().identify, traits.reset_name);  // then it is followed by what it means
        if (!traits.reset_name.empty() && !is_naming && reset_to_beginning(traits)) return Step::done;
    }
    replies_.sent({Request::query, Handling::forward, tag});
    worker_.to_server().put_copy(message::query(from == 0 ? std::string(sql) : blanked(sql, statements[from].begin)));
    send_to_follow();
    return Step::done;
}

// What a statement that goes to the server means for the session; an error: it must not go.
Result<void> Session::note_session_statement(const SessionStatement& statement, const std::vector<ResolvedChange>& changes, Behind behind) {
    const IdentifyConfig& config = worker_.config().identify;
    for (const std::string& name : statement.computed) {
        if (names_tenants(config, name)) return client_error::computed_setting(name);
    }
    if (replies_.is_empty() && replies_.status() == 'E' && statement.verb != SessionVerb::rollback_to) return {};  // the server refuses it
    switch (statement.verb) {
        case SessionVerb::begin: named_.begin(); return {};
        case SessionVerb::savepoint: named_.savepoint(statement.savepoint); return {};
        case SessionVerb::release: named_.release(statement.savepoint); return {};
        case SessionVerb::rollback_to:
            if (named_.roll_back_to(statement.savepoint)) {
                const Result<void> turned = turn_to(ScopedSettings(named_));
                if (!turned) misplaced_ = turned.error();  // ROLLBACK TO itself must run
                // Taken before there was a server connection, it doesn't bring the path back.
                const bool has_path = find_value(named_.view().effective, "search_path") != nullptr;
                if (turned && tenant_ && !has_path && !named_.is_empty() && to_follow_.empty()) follow_with_path(tenant_.get());
            }
            return {};
        case SessionVerb::commit:
        case SessionVerb::rollback:
            has_barrier_ |= named_.in_transaction() && (!named_.is_empty() || has_turned_);
            note_end_of_transaction(statement, behind);
            return {};
        case SessionVerb::set_transaction: return {};
        case SessionVerb::reset_all: {
            note_traits(scan_statement(statement.text, dialect()));
            std::vector<ResolvedChange> forgotten;
            for (const auto* values : {&named_.view().effective, &named_.view().persistent}) {
                for (const auto& [name, value] : *values) forgotten.push_back({name, std::nullopt, false});
            }
            forgotten.push_back({"search_path", std::nullopt, false});
            return turn_by(forgotten);
        }
        case SessionVerb::discard_all:
        case SessionVerb::other:
            if (misplaced_ && statement.verb == SessionVerb::other) return *misplaced_;
            note_traits(scan_statement(statement.text, dialect()));
            return {};
        case SessionVerb::set:
        case SessionVerb::set_config: break;
    }
    std::vector<ResolvedChange> naming;
    bool is_followed = true;
    for (const ResolvedChange& change : changes) {
        const bool is_naming = names_tenants(config, change.name);
        is_followed &= is_naming && change.value.has_value();
        if (is_naming) naming.push_back(change);
    }
    if (!is_followed) note_traits(scan_statement(statement.text, dialect()));
    return naming.empty() ? Result<void>{} : turn_by(naming);
}

// The server goes back to its connection's own context, which is what the tenant that this transaction has named begins with. What is read behind
// that, before the lease ends, must be of the tenant in force then.
void Session::note_end_of_transaction(const SessionStatement& statement, Behind behind) {
    if (behind == Behind::nothing && !statement.chain) return;
    has_ended_ = true;
    const bool is_as_before = !named_.has_uncommitted() && named_.view().effective == named_.view().persistent;
    if (is_as_before && !has_turned_) return;
    state_is_suspect_ = route_is_stale_ = true;
    const bool commits = statement.verb == SessionVerb::commit && replies_.status() != 'E';
    ScopedSettings after = named_;
    if (commits) {
        after.commit();
    } else {
        after.rollback();
    }
    after.begin();  // the chain's, or the batch's
    const bool has_path = commits && find_value(after.view().persistent, "search_path") != nullptr;
    const bool stays = has_path && after.view().effective == named_.view().effective;
    const HeldTransaction::World here = world();
    const Result<std::string> tenant = tenant_in_force(here.config, here.snapshot, here.asker, after.view().effective);
    if (stays || (tenant && *tenant == tenant_name_)) {
        named_ = after;
        if (!stays) misplaced_.reset();
        return;
    }
    Result<void> turned = tenant ? Result<void>{} : Result<void>(tenant.error());
    if (tenant && behind == Behind::query) turned = client_error::tenant_elsewhere(tenant_name_, *tenant);  // nothing can be said in between
    if (turned) turned = turn_to(after);
    if (!turned) misplaced_ = turned.error();
}

// The server connection is proven to have this session's context; still, a function may have changed it behind our back, and the client has
// just set it again. That goes out in front of the statement, in the same transaction and without a Sync: if it fails, PostgreSQL skips the
// statement.
void Session::set_again_in_passing() {
    if (setters_of_ != named_.view().persistent) {
        setters_of_ = named_.view().persistent;
        setters_.clear();
        for (const auto& [name, value] : setters_of_) setters_.push_back(setter_for(name, value));
    }
    for (std::size_t i = 0; i < setters_.size(); ++i) {
        const Setter& setter = setters_[i];
        // Statements of our own must not crowd out the client's.
        const bool has_room = server_->statements().size() * 2 <= worker_.config().limits.server_statements_max;
        if (setter.statement && (has_room || server_->statements().touch(setter.statement->number))) {
            ensure_on_server(setter.statement);
            worker_.to_server().put_copy(setter.bind_and_execute);
        } else {
            ensure_on_server(worker_.setter());
            const auto& [name, value] = setters_of_[i];
            worker_.to_server().put_copy(message::bind_text("", worker_.setter()->server_name, {name, value}) + message::execute(""));
        }
        replies_.sent({Request::bind, Handling::swallow});
        replies_.sent({Request::execute, Handling::swallow});
    }
    set_in_passing_ = true;
    has_barrier_ = true;
}

// SET costs PostgreSQL half of what a SELECT of set_config costs.
Session::Setter Session::setter_for(const std::string& name, const std::string& value) {
    Setter setter;
    const std::string sql = set_statement_sql(name, value);
    if (sql.empty()) return setter;
    setter.statement = worker_.statements().find_or_create("", sql + std::string("\0\0\0", 3));
    setter.bind_and_execute = message::bind_text("", setter.statement->server_name, {}) + message::execute("");
    return setter;
}

// The transaction is over: what it has set stays, or doesn't.
void Session::settle_named() {
    portals_.clear();
    followed_path_.reset();
    const bool was_misplaced = misplaced_.has_value();
    const bool has_turned = std::exchange(has_turned_, false);
    misplaced_.reset();
    const bool saw_error = std::exchange(saw_error_, false);
    const Ended ended = std::exchange(ended_, Ended::by_itself);
    if (saw_error && set_in_passing_) must_set_again_ = true;  // undone with the statement
    if (!named_.in_transaction()) return;
    const bool is_changed = named_.has_uncommitted();
    route_is_stale_ |= is_changed || named_.view().effective != named_.view().persistent;
    // With an error and a commit, some of it was undone by ROLLBACK TO: the server is asked.
    if (is_changed && saw_error && ended == Ended::committed) state_is_suspect_ = true;
    const bool commits = ended == Ended::committed || (ended == Ended::by_itself && !saw_error);
    if (commits) {
        named_.commit();
    } else {
        named_.rollback();
    }
    if (!is_changed) return;
    // The server connection has what was set; whether that is all of what the session's next lease needs is seen when it is got.
    own_state_ = session_state();
    if (commits && !has_turned && !state_is_suspect_ && !was_misplaced) {
        server_->adopt_context(wanted_context());
    } else if (commits) {
        server_->forget_context();
    }
}

}  // namespace pgporter
