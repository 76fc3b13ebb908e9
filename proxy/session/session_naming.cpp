// The tenant in SQL. While the session has no server connection, statements about tenants and transactions are answered here
// (HeldTransaction); with one they are passed on, and what they set is followed. In both cases nobody is asked whose data a statement may
// see but the catalog: a tenant that the session may not be served for is refused before the statement goes out.
#include <algorithm>

#include "catalog/allowed_addresses.hpp"
#include "proxy/session/guarded_statements.hpp"
#include "proxy/session/session.hpp"
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

const User* Session::user_entry() const {
    if (listener_->config.auth == ClientAuth::trust) return nullptr;
    if (const User* entry = worker_.snapshot()->find_user(identity_.user)) return entry;
    const auto& auth_query = worker_.config().auth_query;
    if (auth_query && auth_query->tenants == AuthQueryTenants::all) return nullptr;
    stranger_.name = identity_.user;
    return &stranger_;
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

// What the session's tenant and login ask for, before anything was set by SQL.
Context Session::startup_state() const {
    Context state;
    put_setting(state.settings, "application_name", "");
    if (tenant_) {
        state.role = access_.role;
        state.search_path = search_path_of(*tenant_);
        for (const auto& [name, value] : tenant_->settings) put_setting(state.settings, name, value);
    }
    // What the login said about its own tenant holds for nobody else.
    const bool is_login_tenant = tenant_name_ == identity_.tenant;
    for (const auto& [name, value] : identity_.settings) {
        if (same_name(name, "search_path")) {
            if (is_login_tenant || state.search_path.empty()) state.search_path = value;
        } else if (same_name(name, "client_encoding") && is_utf8_name(value)) {
            continue;  // what server connections have anyway
        } else if (is_login_tenant || !names_tenants(worker_.config().identify, folded(name))) {
            put_setting(state.settings, name, value);
        }
    }
    keep_access(state, access_);
    return state;
}

// The path of this tenant, before anything was set by SQL.
std::string Session::path_to_begin_with(const Tenant& tenant) const {
    const std::string* asked = tenant.name == identity_.tenant ? find_setting(identity_.settings, "search_path") : nullptr;
    return asked != nullptr ? *asked : search_path_of(tenant);
}

Context Session::session_state() const {
    Context state = startup_state_;
    if (own_.role) state.role = *own_.role;
    for (const auto& [name, value] : own_.settings) put_setting(state.settings, name, value);
    const bool is_held_back = held_.state() == HeldTransaction::State::open;
    for (const auto& [name, value] : is_held_back ? named_.committed() : named_.view().persistent) {
        if (name == "search_path") {
            state.search_path = value.empty() ? "\"\"" : value;  // empty means the default here
        } else {
            put_setting(state.settings, name, value);
        }
    }
    keep_access(state, access_);  // last: nothing that the client asked for replaces it
    return state;
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

// PostgreSQL would have let the session turn to that tenant. A client that takes no notice of our refusal must not read on as the tenant
// before; what PostgreSQL's own SET would refuse, or what names nobody, changes nothing.
void Session::note_refused_naming(const Error& error) {
    refused_naming_ = error;
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
        refuse_query(refused_held_);
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

// A simple Query with statements about the session or its transaction, or any in a held transaction that has failed.
Session::Step Session::on_session_query(std::string_view sql) {
    const std::vector<SessionStatement> statements = recognise(sql);
    // What came before may end the lease: then this one is decided anew.
    if (server_ && answered_ == 0 && replies_.ends_with_ready()) return Step::wait_for_replies;
    if (server_) return forward_session_query(sql, statements);
    unnamed_serial_ = 0;
    if (!statements.empty()) portals_.erase(std::string());
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
    if (const auto guarded = guard_statement(sql, access_)) {
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
            if (replies_.status() == 'I' && is_pinned()) note_refused_naming(noted.error());
            raise_query(noted.error(), statements.size() == 1 && !statement.computed.empty() ? sql : std::string_view());
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
        const StatementTraits traits = scan_statement(sql);
        if (!traits.reset_name.empty() && reset_to_beginning(traits)) return Step::done;
    }
    replies_.sent({Request::query, Handling::forward, tag});
    worker_.to_server().put_copy(message::query(from == 0 ? std::string(sql) : blanked(sql, statements[from].begin)));
    if (replies_.status() == 'T') send_path_to_follow();
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
                if (turned && tenant_ && !has_path && !named_.is_empty() && !path_to_follow_) path_to_follow_ = path_to_begin_with(*tenant_);
            }
            return {};
        case SessionVerb::commit:
        case SessionVerb::rollback:
            has_barrier_ |= named_.in_transaction() && !named_.is_empty();
            note_end_of_transaction(statement, behind);
            return {};
        case SessionVerb::set_transaction: return {};
        case SessionVerb::reset_all:
        case SessionVerb::discard_all:
        case SessionVerb::other:
            if (misplaced_) return *misplaced_;
            note_traits(scan_statement(statement.text));
            return {};
        case SessionVerb::set:
        case SessionVerb::set_config: break;
    }
    ScopedSettings after = named_;
    if (replies_.status() == 'I' && replies_.is_empty()) after.begin();
    bool is_followed = true;
    bool names_somebody = false;
    for (const ResolvedChange& change : changes) {
        const bool is_naming = names_tenants(config, change.name);
        is_followed &= is_naming && change.value.has_value();
        names_somebody |= is_naming;
        if (is_naming) after.change(change.name, change.value, change.is_local);
    }
    if (!is_followed) note_traits(scan_statement(statement.text));
    if (!names_somebody) return {};
    after.begin();
    if (has_ended_) state_is_suspect_ = true;  // too tangled to be followed
    return turn_to(after);
}

// The server goes back to its connection's own context, which is what the tenant that this transaction has named begins with. What is read behind
// that, before the lease ends, must be of the tenant in force then.
void Session::note_end_of_transaction(const SessionStatement& statement, Behind behind) {
    if (behind == Behind::nothing && !statement.chain) return;
    has_ended_ = true;
    if (!named_.has_uncommitted() && named_.view().effective == named_.view().persistent) return;
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

// Rows tenants share tables and path; a path leads to a schema. From one kind to the other takes a new context.
bool Session::may_follow_by_path(const Route& there) const {
    const bool is_rows = there.tenant->placement.kind == PlacementKind::rows;
    const bool was_rows = tenant_ && tenant_->placement.kind == PlacementKind::rows;
    return is_rows == was_rows;
}

// The open transaction goes on for whom these settings name. Only within one database, where that is a matter of search_path alone.
Result<void> Session::turn_to(const ScopedSettings& after) {
    const HeldTransaction::World here = world();
    misplaced_.reset();
    Result<std::string> tenant = tenant_in_force(here.config, here.snapshot, here.asker, after.view().effective);
    if (!tenant) return tenant.error();
    if (*tenant != tenant_name_) {
        if (is_pinned()) return client_error::tenant_while_pinned(*tenant, *pins_.begin());
        Result<Route> there = route(*worker_.snapshot(), worker_.config().home, user_entry(), *tenant, identity_.database);
        if (!there) return there.error();
        if (there->tenant && !is_address_allowed(*there->tenant, client_address_.ip)) return client_error::address_not_allowed(*tenant);
        const bool is_here = there->cluster == here.asker.cluster && there->database == here.asker.database;
        Result<Access> access = Access{identity_.user, {}, {}, {}, false, false};
        if (there->tenant) access = access_for(worker_.config(), *worker_.snapshot(), *there->tenant, identity_.user);
        if (!access) return access.error();
        const bool is_same_role = access->login_user == access_.login_user && access->role == access_.role && !access->guards_role;
        const bool is_reached = there->tenant ? may_follow_by_path(*there) : find_value(after.view().effective, "search_path") != nullptr;
        if (!is_here || !is_same_role || !is_reached) {
            const Error elsewhere = client_error::tenant_elsewhere(tenant_name_, *tenant);
            if (there->tenant || !named_.in_transaction()) return elsewhere;
            // Frameworks go back to the default between two statements, and name the tenant again before the next one that reads.
            misplaced_ = elsewhere;
            named_ = after;
            route_is_stale_ = true;
            return {};
        }
        if (there->tenant) {
            TenantDesk& desk = worker_.desk(*tenant);
            if (std::find(visited_.begin(), visited_.end(), &desk) == visited_.end()) {
                // Who is about to move away is not turned to any more; whoever is turned to counts until the transaction ends.
                if (desk.is_held() || !desk.take_place(0)) return client_error::tenant_elsewhere(tenant_name_, *tenant);
                desk.begin_lease();
                visited_.push_back(&desk);
            }
        }
    }
    // What the prologue has set for the lease's own tenant doesn't follow a setting by itself.
    const bool has_path = find_value(after.view().effective, "search_path") != nullptr;
    const bool has_turned = *tenant != tenant_name_ || !visited_.empty();
    const TenantPtr target = tenant->empty() ? nullptr : here.snapshot.find_tenant(*tenant);
    if (!has_path && has_turned && target && target->placement.kind != PlacementKind::rows) path_to_follow_ = path_to_begin_with(*target);
    named_ = after;
    refused_naming_.reset();
    route_is_stale_ = true;
    return {};
}

// The server connection is proven to have this session's context; still, a function may have changed it behind our back, and the client has
// just set it again. That goes out in front of the statement, in the same transaction and without a Sync: if it fails, PostgreSQL skips the
// statement.
void Session::set_again_in_passing() {
    const StatementPtr setter = worker_.setter();
    ensure_on_server(setter);
    for (const auto& [name, value] : named_.view().persistent) {
        worker_.to_server().put_copy(message::bind_text("", setter->server_name, {name, value}) + message::execute(""));
        replies_.sent({Request::bind, Handling::swallow});
        replies_.sent({Request::execute, Handling::swallow});
    }
    set_in_passing_ = true;
    has_barrier_ = true;
}

// Sent right behind what made it necessary, so that ROLLBACK TO undoes both together.
void Session::send_path_to_follow() {
    if (!path_to_follow_) return;
    const std::string path = *std::exchange(path_to_follow_, std::nullopt);
    if (replies_.ends_with_ready()) {
        worker_.to_server().put_copy(message::query("SELECT pg_catalog.set_config('search_path', " + sql_literal(path) + ", true)"));
        replies_.sent({Request::query, Handling::swallow});
        return;
    }
    const StatementPtr setter = worker_.local_setter();
    ensure_on_server(setter);
    worker_.to_server().put_copy(message::bind_text("", setter->server_name, {std::string("search_path"), path}) + message::execute(""));
    replies_.sent({Request::bind, Handling::swallow});
    replies_.sent({Request::execute, Handling::swallow});
}

// The transaction is over: what it has set stays, or doesn't.
void Session::settle_named() {
    portals_.clear();
    const bool was_misplaced = misplaced_.has_value();
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
    if (commits && visited_.empty() && !state_is_suspect_ && !was_misplaced) {
        server_->adopt_context(wanted_context());
    } else if (commits) {
        server_->forget_context();
    }
}

}  // namespace pgporter
