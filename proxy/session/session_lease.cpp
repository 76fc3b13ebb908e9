// Getting and returning a server connection: route, gate, the tenant's cap, pool, context.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "catalog/allowed_addresses.hpp"
#include "catalog/setting_name.hpp"
#include "proxy/session/guarded_statements.hpp"
#include "proxy/session/session.hpp"
#include "proxy/session/tenant_context.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/statement_description.hpp"
#include "router/sql_lexer.hpp"

namespace pgporter {

namespace {

std::string place_name(const Route& route) {
    return route.cluster + '/' + route.database;
}

}  // namespace

Result<void> Session::refresh_route() {
    const SnapshotPtr& snapshot = worker_.snapshot();
    if (!snapshot) return client_error::not_ready();
    const bool is_current = has_route_ && !route_is_stale_ && !binding_ && pool_;
    if (is_current && route_version_ == snapshot->version()) return {};
    if (refused_naming_ && !binding_) return *refused_naming_;
    std::string tenant = identity_.tenant;
    if (names_in_sql()) {
        const HeldTransaction::World here = world();
        Result<std::string> named = tenant_in_force(here.config, here.snapshot, here.asker, binding_ ? *binding_ : named_.view().effective);
        if (!named) {
            if (binding_ && held_.state() == HeldTransaction::State::none) note_refused_naming(named.error());
            return named.error();
        }
        tenant = *std::move(named);
    }
    Result<Route> found = route(*snapshot, worker_.config().home, user_entry(), tenant, identity_.database);
    if (!found) return found.error();
    if (found->tenant && found->tenant->pool_mode == PoolMode::session && tenant != identity_.tenant) return client_error::session_pooled(tenant);
    if (const auto seen = types_seen_.find(tenant); seen != types_seen_.end() && seen->second != place_name(*found)) {
        const Error error = client_error::types_have_moved(tenant);
        end(EndReason::administrator, &error);
        return error;
    }
    if (found->tenant && has_route_ && !is_address_allowed(*found->tenant, client_address_.ip)) return client_error::address_not_allowed(tenant);
    Result<Access> access = Access{identity_.user, {}, {}, {}, false, false};
    if (found->tenant) access = access_for(worker_.config(), *snapshot, *found->tenant, identity_.user);
    if (!access) return access.error();
    Settings asked = identity_.settings;
    if (tenant != identity_.tenant) {  // what names the login's tenant isn't meant for this one, and isn't set for it
        std::erase_if(asked, [this](const auto& setting) { return names_tenants(worker_.config().identify, folded(setting.first)); });
    }
    if (const auto trouble = startup_settings_trouble(*access, asked)) return *trouble;
    PP_TRY(check_startup_naming(asked, {user_entry(), identity_.tenant, tenant, found->cluster, found->database}));
    if (const auto trouble = trouble_with_past(*access)) return *trouble;
    PP_TRY(enter_tenant(*found, *std::move(access)));
    route_version_ = snapshot->version();
    has_route_ = true;
    route_is_stale_ = binding_.has_value();
    return {};
}

// Types that aren't built in have OIDs of their database: a client that has seen some can't follow its tenant to another one.
void Session::note_types(char type, std::string_view body) {
    constexpr std::uint32_t first_own_oid = 16'384;
    if (types_seen_.contains(tenant_name_)) return;
    Reader reader(body);
    const std::optional<std::size_t> columns = reader.u16();
    const auto count = type == 't' ? described_parameters(body) : columns;
    bool is_own = false;
    for (std::size_t i = 0; count && i < *count && !is_own; ++i) {
        if (type == 'T' && (!reader.cstring() || !reader.bytes(6))) return;
        const auto oid = reader.u32();
        if (!oid || (type == 'T' && !reader.bytes(8))) return;
        is_own = *oid >= first_own_oid;
    }
    if (!is_own) return;
    // What it has seen can't be forgotten, so a session that speaks for very many such tenants has an end.
    if (types_seen_.size() >= worker_.config().limits.own_types_tenants_max) return end_at_safe_point(client_error::too_many_own_types());
    types_seen_[tenant_name_] = pool_->key().address.cluster + '/' + pool_->key().database;
}

bool Session::types_have_moved(const Snapshot& snapshot) const {
    const auto seen = types_seen_.find(tenant_name_);
    if (seen == types_seen_.end() || snapshot.find_tenant(tenant_name_) == tenant_) return false;
    const Result<Route> now = route(snapshot, worker_.config().home, user_entry(), tenant_name_, identity_.database);
    return now && seen->second != place_name(*now);
}

// From here on the session's next lease is this tenant's, in this place.
Result<void> Session::enter_tenant(const Route& route, Access access) {
    const bool own_login = access.login_user == identity_.user;
    std::shared_ptr<Pool> pool = worker_.pool_for(route.cluster, route.database, access.login_user, own_login ? learned_keys_ : nullptr);
    if (!pool) return fail(ErrorKind::internal, "the catalog has no cluster \"" + route.cluster + "\"", {}, {}, "58000");
    pool_ = std::move(pool);
    tenant_ = route.tenant;
    access_ = std::move(access);
    if (!access_.setting.empty()) custom_settings_.insert(folded_setting_name(access_.setting));
    const std::string& name = tenant_ ? tenant_->name : std::string();
    if (name != tenant_name_ || (desk_ == nullptr && tenant_)) {
        tenant_name_ = name;
        desk_ = tenant_ ? &worker_.desk(name) : nullptr;
    }
    note_places();
    // Most clients begin alike, and many are idle: those share it.
    SessionContext begins(startup_state(tenant_.get(), access_));
    startup_state_ = has_route_ ? std::make_shared<const SessionContext>(std::move(begins)) : worker_.contexts().shared(std::move(begins));
    own_state_ = session_state();
    context_ = has_route_ ? wanted_context() : own_state_;
    if (!names_in_sql()) {
        // Another tenant that the session's path names may have moved away since.
        if (const auto foreign = names_foreign_tenant(own_state_->search_path, *worker_.snapshot(), standpoint())) return *foreign;
    }
    return {};
}

// What the session set before anything was guarded was never looked at.
std::optional<Error> Session::trouble_with_past(const Access& access) const {
    const bool begins = (access.guards_role && !access_.guards_role) || (access.guards_setting && !access_.guards_setting) ||
                        (access.is_read_only && !access_.is_read_only);
    if (!has_route_ || !begins) return std::nullopt;
    constexpr const char* strings = "standard_conforming_strings";
    if (const std::string* value = find_setting(own_state_->settings, strings)) {
        if (auto trouble = startup_settings_trouble(access, {{strings, *value}})) return trouble;
    }
    return std::nullopt;  // prepared statements are looked at whenever they are bound
}

Standpoint Session::standpoint() const {
    return {tenant_name_, pool_->key().address.cluster, pool_->key().database, user_entry()};
}

const SessionContextPtr& Session::wanted_context() {
    const bool is_so = context_ && (context_ == own_state_ || *context_ == *own_state_);
    if (!is_so) context_ = std::make_shared<const SessionContext>(*own_state_);  // of its own: what has another one's isn't established
    return context_;
}

bool Session::try_begin_lease(bool in_passing) {
    if (desk_ != nullptr && (desk_->is_held() || must_ask_fence())) return false;
    if (draining_ || !context_ || !has_route_ || !pool_) return false;
    if (must_set_again_ && !(in_passing && can_spell_named() && worker_.config().limits.server_statements_max > 1)) return false;
    if (route_is_stale_ || refused_naming_ || binding_ || held_.state() != HeldTransaction::State::none) return false;
    if (worker_.snapshot() == nullptr || route_version_ != worker_.snapshot()->version()) return false;
    Place place = try_take_place();
    ServerPtr server = place ? pool_->try_take(id_, tenant_mark_of_desk()) : nullptr;
    const bool is_established = server && server->is_established(context_, id_);
    if (!server || !speaks_alike(*server) || !(is_established || may_go_ahead(*server)) || !is_in_rate()) {
        // obtain_server() takes it (or a better one) again: it is the last used.
        if (server) pool_->give_back(server);
        return false;
    }
    start_lease(std::move(server), std::move(place));
    if (!is_established) {
        begin_ahead();
        put_prologue_ahead();
        return true;
    }
    tell_parameter_changes();
    if (std::exchange(must_set_again_, false)) set_again_in_passing();
    return true;
}

void Session::start_lease(ServerPtr server, Place place) {
    PP_ASSERT(!server_);
    place_ = std::move(place);
    if (desk_ != nullptr) desk_->begin_lease();
    worker_.shared().pool_metrics.leases.add(1);
    server_ = std::move(server);
    server_->lend(shared_from_this());
    server_->served.note(tenant_mark_of_desk());
    replies_.reset();
    reuse_.number = 0;
    reuse_.is_to_replay = false;
    asked_at_ = SteadyTime{};
    cancel_sent_ = parameters_untold_ = ahead_.is_due = ahead_.is_this_turn = false;
    state_is_suspect_ = false;
    context_was_reset_ = false;
    goes_back_ = dialect_in_doubt_ = has_dependent_in_flight_ = reading_in_doubt_ = false;
    // Where this transaction names somebody for itself alone, what is sent behind it may be another lease's.
    has_barrier_ = binding_ || named_.has_uncommitted() || named_.view().effective != named_.view().persistent;
    saw_error_ = false;
    set_in_passing_ = false;
    to_follow_.clear();
    has_turned_ = false;
    followed_path_.reset();
    path_of_reset_.reset();
    has_ended_ = false;
    ended_statement_.reset();
    unnamed_change_.reset();
    ended_ = Ended::by_itself;
}

// A server connection may report other values than the one before (another server, another version): the client is told.
void Session::tell_parameter_changes() {
    if (client_reported_ == server_->reported() || resetting_) return;
    if (!client_reported_) {  // the welcome tells them all
        client_reported_ = server_->reported();
        return;
    }
    const std::string changes = parameter_changes();
    flush_said();
    if (!changes.empty()) client_out_.write(client_, changes);
}

// What the client must be told, which it knows then.
std::string Session::parameter_changes() {
    std::string changes;
    const auto before = std::exchange(client_reported_, server_->reported());
    if (before == client_reported_ || *before == *client_reported_) return changes;
    for (const auto& [name, value] : *client_reported_) {
        const std::string* known = find_setting(*before, name);
        if (known == nullptr || *known != value) changes += message::parameter_status(name, value);
    }
    return changes;
}

void Session::end_lease() {
    PP_ASSERT(server_);
    const ServerPtr server = std::exchange(server_, nullptr);
    lease_ends_after_flush_ = false;
    worker_.shared().pool_metrics.leases.add(-1);
    idle_deadline_.disarm();
    end_times();
    operations_.clear();
    operations_share_.release();
    operations_counted_ = 0;
    unsettled_names_.clear();
    unsettled_statements_.clear();
    portals_.clear();
    asked_ = 0;
    unnamed_portal_is_of_unnamed_ = false;
    portal_of_unnamed_.clear();
    pool_->give_back(server);
    place_.give_back();
    end_visits();
    if (desk_ != nullptr) desk_->end_lease();
    if (draining_) end(EndReason::administrator, &*safe_end_error_);
}

void Session::end_visits() {
    for (TenantDesk* desk : std::exchange(visited_, {})) desk->end_lease();
    visits_.clear();
}

// The session ends while it holds a lease.
void Session::abandon_lease() {
    const ServerPtr server = std::exchange(server_, nullptr);
    worker_.shared().pool_metrics.leases.add(-1);
    std::vector<Place> places = std::exchange(visits_, {});
    places.push_back(std::move(place_));
    std::vector<TenantDesk*> desks = std::exchange(visited_, {});
    if (desk_ != nullptr) desks.push_back(desk_);
    if (pins_.contains("temporary_object")) server->statements().renew(worker_.next_moment());
    const bool is_answered = replies_.is_empty() && !replies_.has_open_batch() && !replies_.is_copying_in() && !replies_.is_skipping();
    const bool nothing_owed = is_answered && !server->owes_proof() && !inspecting_ && partial_ == Partial::none && server->is_between_messages() &&
                              server->is_alive();
    if (nothing_owed && replies_.status() == 'I' && !is_pinned()) {
        server->forget_context();
        pool_->give_back(server);
    } else if (nothing_owed) {
        // The transaction must be over before the tenant counts as drained, and what pinned the session (locks that others wait for) must be
        // gone with it, not with the server connection's next use.
        std::string sql = replies_.status() == 'I' ? std::string() : "ROLLBACK";
        if (is_pinned()) sql += (sql.empty() ? "" : "; ") + reset_sql();
        server->take_back();
        asio::co_spawn(worker_.thread().executor(), clean_and_return(server, pool_, std::move(desks), std::move(places), std::move(sql)), asio::detached);
        return;
    } else {
        // It runs something for nobody: end that too.
        auto& shared = worker_.shared();
        if (server->is_alive() && !replies_.is_empty() && shared.cancels_in_flight.load() < worker_.config().limits.cancels_max) {
            asio::co_spawn(worker_.thread().executor(), send_cancel(server, pool_, &shared), asio::detached);
            if (server->owes_proof()) asio::co_spawn(worker_.thread().executor(), cancel_again(nullptr, server, pool_, &shared), asio::detached);
        }
        server->take_back();
        server->close();
    }
    for (TenantDesk* desk : desks) desk->end_lease();
}

Task<> Session::clean_and_return(ServerPtr server, std::shared_ptr<Pool> pool, std::vector<TenantDesk*> desks, std::vector<Place> places,
                                 std::string sql) {
    const Result<QueryAnswer> cleaned = co_await server->query(std::move(sql), server->options().prologue_ms_max);
    server->forget_context();
    if (cleaned) {
        pool->give_back(server);
    } else {
        server->close();
    }
    places.clear();
    for (TenantDesk* desk : desks) desk->end_lease();
}

// Quarantine: until PostgreSQL has closed the cancel connection, the signal may be on its way, and the server connection serves nobody else.
Task<> Session::send_cancel(ServerPtr server, std::shared_ptr<Pool> pool, DataPathShared* shared) {
    ++server->cancels_in_flight;
    ++shared->cancels_in_flight;
    IoThread& thread = server->thread();
    Result<Socket> socket = co_await connect_socket(thread, server->address(), shared->config.limits.cancel_ms_max);
    if (socket) {
        Stream stream(std::move(*socket));
        Deadline deadline(thread.wheel());
        deadline.arm(shared->config.limits.cancel_ms_max, [&stream] { stream.close(); });
        bool open = co_await stream.write_all(build_cancel_request(server->pid(), server->cancel_key()));
        while (open) {
            char ignored[64];
            const IoResult result = stream.read_some(ignored, sizeof ignored);
            if (result.status == IoStatus::ok) continue;
            open = co_await stream.ready_for(result.status);
        }
    }
    --shared->cancels_in_flight;
    --server->cancels_in_flight;
    if (server->is_alive()) pool->on_cancel_done(server);
}

// Waits for the waiter's end, the time bound, a cancel request or the client's leaving.
Task<Result<void>> Session::wait(PoolWaiter& waiter, Milliseconds ms_max) {
    current_wait_ = &waiter;
    ++worker_.shared().waiting;
    deadline_.arm(ms_max, [this] {
        if (current_wait_ == nullptr || current_wait_->end != PoolWaiter::End::none) return;
        current_wait_->end = PoolWaiter::End::timed_out;
        current_wait_->done.notify();
    });
    begin_watching_client();
    while (waiter.end == PoolWaiter::End::none) co_await waiter.done.wait();
    --worker_.shared().waiting;
    current_wait_ = nullptr;
    if (end_reason_ == EndReason::none) deadline_.disarm();
    switch (waiter.end) {
        case PoolWaiter::End::none:
        case PoolWaiter::End::served:
        case PoolWaiter::End::retry: co_return Result<void>{};
        case PoolWaiter::End::failed: co_return waiter.error;
        case PoolWaiter::End::cancelled: co_return client_error::cancelled();
        case PoolWaiter::End::timed_out: co_return client_error::wait_timeout(ms_max.count());
    }
    co_return client_error::cancelled();
}

void Session::begin_watching_client() {
    if (watching_client_ || client_.has_buffered_input()) return;
    watching_client_ = true;
    client_.when_readable(Waiter([self = shared_from_this()](bool is_ready) { self->look_after_client(is_ready); }));
}

// A client that leaves while it waits must not keep its place in a queue.
void Session::look_after_client(bool is_ready) {
    watching_client_ = false;
    if (!is_ready || end_reason_ != EndReason::none) return;
    const bool is_waiting = current_wait_ != nullptr || terminating_ || asked_ != 0 || (server_ && server_->owes_proof());
    if (is_waiting && client_.is_closed_by_peer()) end(EndReason::client_lost, nullptr);
}

Task<Result<void>> Session::wait_at_gate() {
    const LimitsConfig& limits = worker_.config().limits;
    SessionMetrics& metrics = worker_.shared().session_metrics;
    if (desk_->gate_waiters() >= limits.hold_waiters_max) co_return client_error::too_many_held(desk_->name());
    PoolWaiter waiter(worker_.thread().executor());
    metrics.gate_waits.inc();
    const auto since = std::chrono::steady_clock::now();
    desk_->join_gate(waiter);
    Result<void> waited = co_await wait(waiter, limits.hold_wait_ms_max);
    desk_->leave(waiter);
    metrics.gate_wait_seconds.observe_seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count());
    if (waiter.end == PoolWaiter::End::timed_out) {
        metrics.gate_timeouts.inc();
        co_return client_error::hold_timeout(desk_->name(), limits.hold_wait_ms_max.count());
    }
    co_return waited;
}

Task<Result<ServerPtr>> Session::wait_in_pool() {
    const LimitsConfig& limits = worker_.config().limits;
    PoolMetrics& metrics = worker_.shared().pool_metrics;
    if (worker_.shared().waiting.load() >= limits.waiters_max) co_return client_error::too_many_waiters();
    const std::shared_ptr<Pool> pool = pool_;
    PoolWaiter waiter(worker_.thread().executor());
    waiter.tenant = tenant_name_;
    pool->wait(waiter);
    Result<void> waited{};
    if (waiter.end == PoolWaiter::End::none || waiter.end == PoolWaiter::End::failed) {
        waited = co_await wait(waiter, limits.wait_ms_max);
    }
    pool->leave(waiter);
    metrics.wait_seconds.observe_seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - waiter.since).count());
    if (waiter.server && (!waited || end_reason_ != EndReason::none)) {
        pool->give_back(waiter.server);  // served and cancelled in the same moment
        waiter.server.reset();
    }
    if (!waited) {
        if (waiter.end == PoolWaiter::End::timed_out) {
            metrics.wait_timeouts.inc();
            if (const Error* why = pool->trouble()) co_return *why;
        }
        co_return waited.error();
    }
    co_return waiter.server;  // null: look again where to go
}

Task<Result<void>> Session::obtain_server(bool may_be_ahead) {
    if (held_.state() == HeldTransaction::State::failed) co_return client_error::transaction_aborted();
    constexpr int lost_connections_max = 3;
    int lost_connections = 0;
    bool is_in_turn = false;  // by the tenant's rates
    Place place;              // on the cluster
    cancel_asked_ = false;
    while (true) {
        if (end_reason_ != EndReason::none) co_return client_error::cancelled();
        Result<void> routed = refresh_route();
        if (!routed) co_return routed.error();
        if (!place.is_of(places_.get(), share_.get())) place.give_back();
        if (desk_ != nullptr && desk_->is_held()) {
            place.give_back();
            Result<void> opened = co_await wait_at_gate();
            if (!opened) co_return opened.error();
            continue;
        }
        if (!is_in_turn && has_rates()) {
            is_in_turn = true;
            Result<void> turn = co_await wait_for_rate();
            if (!turn) co_return turn.error();
            continue;  // the world may have moved
        }
        if (!place) place = try_take_place();
        if (!place) {
            Result<void> freed = co_await wait_for_place(place);
            if (!freed) co_return freed.error();
            continue;
        }
        ServerPtr server = pool_->try_take(id_, tenant_mark_of_desk());
        if (!server) {
            Result<ServerPtr> waited = co_await wait_in_pool();
            if (!waited) co_return waited.error();
            server = *waited;
        }
        if (!server) continue;
        // The world may have moved while we waited: a hold, a flip, the tenant's cap.
        const bool moved = (desk_ != nullptr && desk_->is_held()) || worker_.snapshot()->version() != route_version_ || !server->is_alive();
        if (moved || end_reason_ != EndReason::none) {
            pool_->give_back(server);
            continue;
        }
        start_lease(server, std::move(place));
        const ContextPtr context = wanted_context();
        if (may_be_ahead && !server->is_established(context, id_) && may_go_ahead(*server)) {
            begin_ahead();
            co_return Result<void>{};
        }
        Result<void> proven{};
        obtaining_ = true;
        if (!server->is_established(context, id_)) {
            proven = co_await server->establish(context, id_);
        } else if (must_set_again_) {
            proven = co_await server->establish_again(context, id_);
        }
        if (end_reason_ != EndReason::none) co_return client_error::cancelled();
        if (proven && server_ == server && !cancel_asked_ && must_ask_fence()) {
            proven = co_await ask_fence();
            if (end_reason_ != EndReason::none) co_return client_error::cancelled();
        }
        if (proven && server_ == server && !cancel_asked_) {
            proven = co_await begin_held_back();
            if (end_reason_ != EndReason::none) co_return client_error::cancelled();
        }
        obtaining_ = false;
        if (proven && server_ == server && !cancel_asked_) {
            ahead_.is_next_awaited = false;
            must_set_again_ = false;
            binding_.reset();
            const bool is_read_otherwise = answered_ != 0 && !speaks_alike(*server);
            tell_parameter_changes();
            if (is_read_otherwise) {
                const Error error = client_error::dialect_changed();
                end(EndReason::protocol_violation, &error);
                co_return error;
            }
            co_return Result<void>{};
        }
        // A cancel meant for an earlier holder may arrive now: no fault of this session.
        const bool was_hit = proven.has_error() && proven.error().sqlstate == "57014";
        const bool was_lost = !server->is_alive() || was_hit;
        if (server_ == server) {
            server->forget_context();
            if (was_hit || (proven.has_error() && proven.error().kind != ErrorKind::invalid)) server->close();
            end_lease();
        }
        if (cancel_asked_) co_return client_error::cancelled();
        // Not a byte of the client's was sent: another connection may be tried.
        if (was_lost && ++lost_connections < lost_connections_max) continue;
        if (proven.has_error()) co_return proven.error();
        co_return client_error::server_lost();
    }
}

// BEGIN and what followed it, before anything that needs the server. Alone, and its success awaited: what comes next must not run outside
// of the transaction.
Task<Result<void>> Session::begin_held_back() {
    std::string sql = held_.held_back([this](std::string_view setting) -> const std::string* {
        if (setting != "search_path") return find_setting(startup_state_->settings, setting);
        return startup_state_->search_path.empty() ? nullptr : &startup_state_->search_path;
    });
    if (sql.empty()) {
        held_.hand_over();
        co_return Result<void>{};
    }
    // It may have begun before it was known whose it is, or that this tenant only reads.
    if (auto writes = access_.is_read_only ? guard_statement(sql, access_, dialect()) : std::nullopt) co_return *std::move(writes);
    const ServerPtr server = server_;
    Result<QueryAnswer> begun = co_await server->query(std::move(sql), server->options().prologue_ms_max);
    if (!begun) {
        server->close();
        co_return begun.error();
    }
    if (cancel_asked_) co_return client_error::cancelled();
    // It may have ended right behind its answer: then there is no transaction, and it is begun elsewhere.
    if (server_ != server || !server->is_alive()) co_return client_error::server_lost();
    held_.hand_over();
    replies_.begin_in_transaction();
    co_return Result<void>{};
}

void Session::on_server_lost(ServerConnection& server) {
    if (server_.get() != &server) return;
    const ServerPtr lost = std::exchange(server_, nullptr);
    worker_.shared().pool_metrics.leases.add(-1);
    end_times();
    place_.give_back();
    end_visits();
    if (desk_ != nullptr) desk_->end_lease();
    if (end_reason_ != EndReason::none) return;
    if (obtaining_) return;  // obtain_server() sees it, and no client byte was sent
    // What the server said last (a FATAL of its own) has been passed on; else the client is told here, once.
    if (server_said_fatal_) {
        end(EndReason::server_lost, nullptr);
        return;
    }
    const bool was_silent = server.loss() == ServerConnection::Loss::silent;
    const Error error = was_silent ? client_error::server_silent(server.options().silent_ms_max.count()) : client_error::server_lost();
    end(EndReason::server_lost, &error);
}

}  // namespace pgporter
