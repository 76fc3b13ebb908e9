// ServedTenants: which tenants a server connection has worked for. PostgreSQL's process keeps what it has read of their tables until it ends, so a
// tenant is served best, and for least memory, where it has been before; and a connection that has seen very many is renewed.
// choose_server(): the rule by which one of the idle connections is lent. Both pure. They must not: know how connections are opened or closed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <unordered_set>

namespace pgporter {

// Stands for a tenant's name. Two names may have the same mark: what is decided by it is a matter of speed, never of whom a connection is for.
enum class TenantMark : std::uint32_t {};

[[nodiscard]] inline TenantMark tenant_mark(std::string_view name) {
    return static_cast<TenantMark>(std::hash<std::string_view>{}(name));
}

class ServedTenants {
  public:
    void note(TenantMark tenant) {
        if (has_last_ && tenant == last_) return;
        last_ = tenant;
        has_last_ = true;
        seen_.insert(static_cast<std::uint32_t>(tenant));
    }
    [[nodiscard]] bool has(TenantMark tenant) const {
        return has_last_ && (tenant == last_ || seen_.contains(static_cast<std::uint32_t>(tenant)));
    }
    [[nodiscard]] std::size_t count() const { return seen_.size(); }

  private:
    TenantMark last_{};
    bool has_last_ = false;
    std::unordered_set<std::uint32_t> seen_;
};

// Of the idle connections, the last used at the end of the range: the one that this session has used last (nothing to reset); else one that has
// served the tenant; else the one that has served the fewest, so that tenants spread. Among equals the last used, which is warm.
// `is_sessions` and `served` are asked of the range's elements. The range isn't empty.
template <typename Iterator, typename IsSessions, typename Served>
[[nodiscard]] Iterator choose_server(Iterator begin, Iterator end, TenantMark tenant, IsSessions is_sessions, Served served) {
    Iterator known = end;
    Iterator least = end;
    std::size_t fewest = 0;
    for (Iterator at = end; at != begin;) {
        --at;
        if (is_sessions(*at)) return at;
        if (known != end) continue;
        const ServedTenants& tenants = served(*at);
        if (tenants.has(tenant)) known = at;
        if (least == end || tenants.count() < fewest) {
            least = at;
            fewest = tenants.count();
        }
    }
    return known != end ? known : least;
}

}  // namespace pgporter
