#include "catalog/tenant.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "catalog/sql_identifier.hpp"

namespace pgporter {
namespace {

// The inverse of to_text(): one list of texts an enum, not two.
template <class E>
std::optional<E> from_text(std::string_view text, std::initializer_list<E> all) {
    for (const E candidate : all) {
        if (to_text(candidate) == text) return candidate;
    }
    return std::nullopt;
}

}  // namespace

std::string_view to_text(PlacementKind kind) {
    switch (kind) {
        case PlacementKind::rows:
            return "rows";
        case PlacementKind::schema:
            return "schema";
        case PlacementKind::database:
            return "database";
    }
    PP_ASSERT(false);
}

std::string_view to_text(Isolation isolation) {
    switch (isolation) {
        case Isolation::app:
            return "app";
        case Isolation::role:
            return "role";
        case Isolation::login:
            return "login";
    }
    PP_ASSERT(false);
}

std::string_view to_text(TenantState state) {
    switch (state) {
        case TenantState::active:
            return "active";
        case TenantState::read_only:
            return "read_only";
        case TenantState::suspended:
            return "suspended";
    }
    PP_ASSERT(false);
}

std::string_view to_text(PoolMode mode) {
    switch (mode) {
        case PoolMode::transaction:
            return "transaction";
        case PoolMode::session:
            return "session";
    }
    PP_ASSERT(false);
}

std::string_view to_text(ServerTls tls) {
    switch (tls) {
        case ServerTls::disable:
            return "disable";
        case ServerTls::require:
            return "require";
        case ServerTls::verify_ca:
            return "verify_ca";
        case ServerTls::verify_full:
            return "verify_full";
    }
    PP_ASSERT(false);
}

std::optional<PlacementKind> placement_kind_from(std::string_view text) {
    return from_text(text, {PlacementKind::rows, PlacementKind::schema, PlacementKind::database});
}

std::optional<Isolation> isolation_from(std::string_view text) {
    return from_text(text, {Isolation::app, Isolation::role, Isolation::login});
}

std::optional<TenantState> tenant_state_from(std::string_view text) {
    return from_text(text, {TenantState::active, TenantState::read_only, TenantState::suspended});
}

std::optional<PoolMode> pool_mode_from(std::string_view text) {
    return from_text(text, {PoolMode::transaction, PoolMode::session});
}

std::optional<ServerTls> server_tls_from(std::string_view text) {
    return from_text(text, {ServerTls::disable, ServerTls::require, ServerTls::verify_ca, ServerTls::verify_full});
}

const std::string& tenant_key(const Tenant& tenant) {
    return tenant.key.empty() ? tenant.name : tenant.key;
}

bool is_tenant_name(std::string_view name) {
    constexpr std::size_t length_max = 63;
    if (name.empty() || name.size() > length_max) return false;
    const auto is_start = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    return is_start(name.front()) &&
           std::all_of(name.begin(), name.end(), [&](char c) { return is_start(c) || c == '_' || c == '-'; });
}

std::string search_path_of(const Tenant& tenant) {
    // Without a schema of its own a tenant's tables are where the server's own path leads to, unless their schemas are named: rows,
    // and what were rows and has a database to itself now.
    const bool no_schema = tenant.placement.schema.empty();
    const bool has_default = tenant.shared_schemas == Tenant{}.shared_schemas;
    if (no_schema && (has_default || tenant.placement.kind == PlacementKind::schema)) return {};
    std::string path = no_schema ? std::string() : quote_ident_where_needed(tenant.placement.schema);
    for (const auto& schema : tenant.shared_schemas) {
        if (schema == tenant.placement.schema) continue;
        path += path.empty() ? "" : ", ";
        path += quote_ident_where_needed(schema);
    }
    return path;
}

}  // namespace pgporter
