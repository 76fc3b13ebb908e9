// While this instance may not hear of moves (the catalog is away, or the process was stopped for a while), the tenant's database itself says
// whether the tenant has left it: its fence is closed then. So nobody reads there for long what is out of date; writes are refused anyway.
#include "catalog/tenant.hpp"
#include "proxy/session/session.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds ask_again_after{1'000};  // for each tenant and thread

const std::string closed_fence =
    "SELECT 1 FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid "
    "JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
    "WHERE n.nspname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND t.tgenabled OPERATOR(pg_catalog.=) 'A'::\"char\" "
    "AND pg_catalog.starts_with(t.tgname::pg_catalog.text, 'pgporter_') LIMIT 1";

// Of rows of shared tables (admin/mover/row_fence.hpp): the gate's comment says whose, also when the move is long completed. Only what the
// mover made counts.
const std::string closed_gate =
    "SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
    "WHERE c.relname OPERATOR(pg_catalog.=) 'gate' AND n.nspname OPERATOR(pg_catalog.~) '^pgporter_(move|back)_' "
    "AND pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.=) $2::pg_catalog.name "
    "AND pg_catalog.obj_description(c.oid, 'pg_class') OPERATOR(pg_catalog.=) "
    "('fenced '::pg_catalog.text OPERATOR(pg_catalog.||) pg_catalog.md5($1::pg_catalog.text)) LIMIT 1";

}  // namespace

bool Session::must_ask_fence() const {
    if (desk_ == nullptr || !tenant_) return false;
    if (tenant_->placement.schema.empty() && tenant_->placement.kind != PlacementKind::rows) return false;
    const auto& hears_all = worker_.shared().hears_all;
    if (!hears_all || hears_all()) return false;
    return std::chrono::steady_clock::now() - desk_->fence_asked_at > ask_again_after;
}

// On the lease that has just been proven, before any client byte.
Task<Result<void>> Session::ask_fence() {
    TenantDesk* const desk = desk_;
    const ServerPtr server = server_;
    const bool is_rows = tenant_->placement.kind == PlacementKind::rows;
    std::vector<std::optional<std::string>> whose{is_rows ? tenant_key(*tenant_) : tenant_->placement.schema};
    if (is_rows) whose.emplace_back(worker_.config().mover.user);
    Result<QueryAnswer> answer =
        co_await server->query_params(is_rows ? closed_gate : closed_fence, std::move(whose), server->options().prologue_ms_max);
    if (!answer) co_return answer.error();
    if (answer->rows.empty()) {
        desk->fence_asked_at = std::chrono::steady_clock::now();
        co_return Result<void>{};
    }
    if (worker_.shared().on_fence_met) worker_.shared().on_fence_met(desk->name());
    co_return client_error::moved_meanwhile(desk->name());
}

}  // namespace pgporter
