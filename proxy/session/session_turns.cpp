// A transaction that has begun at a server turns to another tenant, or back: the naming has changed, the server connection stays.
#include <algorithm>

#include "catalog/allowed_addresses.hpp"
#include "proxy/session/client_errors.hpp"
#include "proxy/session/session.hpp"
#include "proxy/session/tenant_context.hpp"
#include "proxy/wire/messages.hpp"
#include "router/sql_words.hpp"

namespace pgporter {

// Rows tenants share tables and path; a path leads to a schema. From one kind to the other takes a new context, and so does leaving a tenant
// whose setting the prologue has made.
bool Session::may_follow_by_path(const Tenant* there, const ScopedSettings& after) const {
    const bool was_rows = tenant_ && tenant_->placement.kind == PlacementKind::rows;
    if (there != nullptr) return (there->placement.kind == PlacementKind::rows) == was_rows;
    return find_value(after.view().effective, "search_path") != nullptr || (!was_rows && access_.setting.empty());
}

// RESET ALL and DISCARD ALL lead back to whom the session began with, so they need that one's lease, also where nobody can be served for what is
// named. Until one of them has run, nothing else may read there.
void Session::plan_to_give_up(bool gives_up) {
    if (server_ || binding_ || !gives_up || !names_in_sql() || held_.state() != HeldTransaction::State::none) return;
    const HeldTransaction::World here = world();
    const Result<std::string> tenant = tenant_in_force(here.config, here.snapshot, here.asker, named_.view().effective);
    if (refused_naming_) {
        misplaced_ = refused_naming_;
    } else if (!tenant) {
        misplaced_ = refused_naming_ = tenant.error();
    } else if (*tenant != identity_.tenant) {
        misplaced_ = client_error::tenant_elsewhere(identity_.tenant, *tenant);
    } else {
        return;
    }
    binding_ = ScopedSettings::Values{};
}

// Settings that name tenants, in a statement that goes to the server. What one of them is brought back to is what the session began with for
// whoever is named then, which the server doesn't know as its default.
Result<void> Session::turn_by(const std::vector<ResolvedChange>& changes) {
    ScopedSettings after = named_;
    after.begin();  // the batch's own, if there is no other
    for (const ResolvedChange& change : changes) after.change(change.name, change.value, change.is_local);
    if (has_ended_) state_is_suspect_ = true;  // too tangled to be followed
    const bool goes_back = std::none_of(changes.begin(), changes.end(), [](const ResolvedChange& change) { return change.value.has_value(); });
    PP_TRY(turn_to(after, goes_back));
    if (misplaced_ || std::all_of(changes.begin(), changes.end(), [](const ResolvedChange& change) { return change.value.has_value(); })) return {};
    const HeldTransaction::World here = world();
    const Result<std::string> tenant = tenant_in_force(here.config, here.snapshot, here.asker, named_.view().effective);
    if (!tenant) return tenant.error();
    const TenantPtr target = tenant->empty() ? nullptr : here.snapshot.find_tenant(*tenant);
    Result<Access> access = Access{identity_.user, {}, {}, {}, false, false};
    if (target) access = access_for(worker_.config(), here.snapshot, *target, identity_.user);
    if (!access) return access.error();
    const Context beginning = startup_state(target.get(), *access);
    for (const ResolvedChange& change : changes) {
        if (change.value) continue;
        const bool is_path = change.name == "search_path";
        const std::string* value = is_path ? &beginning.search_path : find_setting(beginning.settings, change.name);
        if (value == nullptr || value->empty()) continue;
        if (!can_spell(*value)) return client_error::unreadable_naming();
        to_follow_.push_back({change.name, *value, change.is_local});
        if (is_path) path_of_reset_ = *value;
    }
    return {};
}

// The open transaction goes on for whom these settings name. Only within one database, where that is a matter of search_path alone.
Result<void> Session::turn_to(const ScopedSettings& after, bool goes_back) {
    const HeldTransaction::World here = world();
    misplaced_.reset();
    to_follow_.clear();
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
        const bool is_same_role = access->login_user == access_.login_user && access->role == access_.role && !access->guards_role &&
                                  access->is_read_only == access_.is_read_only;
        if (!is_here || !is_same_role || !may_follow_by_path(there->tenant.get(), after)) {
            const Error elsewhere = client_error::tenant_elsewhere(tenant_name_, *tenant);
            const bool may_leave = (!there->tenant && named_.in_transaction()) || (goes_back && replies_.status() == 'I');
            if (!may_leave) return elsewhere;
            // Frameworks go back to the default between two statements, and name the tenant again before the next one that reads; pools of
            // connections do so last of all (RESET ALL).
            misplaced_ = elsewhere;
            named_ = after;
            route_is_stale_ = true;
            return {};
        }
        if (there->tenant) {
            TenantDesk& desk = worker_.desk(*tenant);
            if (std::find(visited_.begin(), visited_.end(), &desk) == visited_.end()) {
                // Who is about to move away is not turned to any more; whoever is turned to counts until the transaction ends.
                if (desk.is_held()) return client_error::tenant_elsewhere(tenant_name_, *tenant);
                desk.begin_lease();
                visited_.push_back(&desk);
                visits_.push_back(places_->visit(desk.share(places_)));
            }
        }
        has_turned_ = true;
    }
    // What the prologue has set for the lease's own tenant doesn't follow a setting by itself.
    const bool has_path = find_value(after.view().effective, "search_path") != nullptr;
    const TenantPtr target = tenant->empty() ? nullptr : here.snapshot.find_tenant(*tenant);
    if (!has_path && has_turned_) follow_with_path(target.get());
    if (!to_follow_.empty() && !can_spell(to_follow_.back().value)) return client_error::unreadable_naming();
    named_ = after;
    followed_path_.reset();
    refused_naming_.reset();
    route_is_stale_ = true;
    return {};
}

// Until the transaction ends. Null: nobody's.
void Session::follow_with_path(const Tenant* target) {
    if (target != nullptr && target->placement.kind == PlacementKind::rows) return;
    to_follow_.push_back({"search_path", startup_state(target, Access{}).search_path, true});
}

// Sent right behind what made it necessary, so that ROLLBACK TO undoes both together.
void Session::send_to_follow() {
    const std::vector<ToFollow> all = std::exchange(to_follow_, {});
    for (const ToFollow& next : all) {
        if (next.name == "search_path") followed_path_ = next.value;
    }
    if (all.empty() || (replies_.ends_with_ready() && replies_.status() != 'T')) return;
    if (replies_.ends_with_ready()) {
        std::string sql;
        for (const auto& [name, value, is_local] : all) {
            sql += value.empty() ? std::string(path_reset)
                                 : "SELECT pg_catalog.set_config(" + ascii_sql_literal(name) + ", " + ascii_sql_literal(value) + (is_local ? ", true)" : ", false)");
            sql += "; ";
        }
        worker_.to_server().put_copy(message::query(sql));
        replies_.sent({Request::query, Handling::swallow});
        return;
    }
    for (const auto& [name, value, is_local] : all) {
        const StatementPtr setter = value.empty() ? worker_.path_resetter() : is_local ? worker_.local_setter() : worker_.setter();
        ensure_on_server(setter);
        std::vector<std::optional<std::string>> parameters;
        if (!value.empty()) parameters = {name, value};
        // The client may still ask for its own unnamed portal.
        const std::string portal = std::string(server_statement_prefix) + "follow";
        worker_.to_server().put_copy(message::bind_text(portal, setter->server_name, parameters) + message::execute(portal) + message::close('P', portal));
        replies_.sent({Request::bind, Handling::swallow});
        replies_.sent({Request::execute, Handling::swallow});
        replies_.sent({Request::close, Handling::swallow});
    }
}

}  // namespace pgporter
