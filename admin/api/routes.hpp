// The route table: every method and path the API answers, and what each needs. Pure; any thread.
// openapi.cpp describes the same routes; a test compares the two.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pgporter {

enum class Endpoint {
    list_tenants, get_tenant, forget_tenant, promote_tenant, demote_tenant, relocate_tenant, suspend_tenant, resume_tenant,
    list_clusters, check_database, apply_document,
    list_moves, get_move, cancel_move, cutover_move, complete_move, rollback_move, move_events,
    healthz, readyz, metrics_page, openapi
};

enum class Access {
    open,            // health: nobody is asked
    open_on_loopback,  // metrics: open when the API listens on loopback, else the token
    token
};

struct Route {
    std::string_view method;
    std::string_view pattern;  // "{name}" stands for one path segment; "{name}:verb" for one that ends with ":verb"
    Endpoint endpoint;
    Access access;
    bool blocks;  // may wait for the catalog or a cluster: never on the I/O thread
};

struct RouteMatch {
    const Route* route = nullptr;                // null: see `allowed`
    std::map<std::string, std::string> params;
    std::vector<std::string_view> allowed;       // methods of this path; empty: no such path
};

[[nodiscard]] std::span<const Route> route_table();
[[nodiscard]] RouteMatch match_route(std::string_view method, std::string_view path);

// Percent-decoding; nothing for a broken escape or a zero byte. `plus_is_space` is for queries.
[[nodiscard]] std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);
// "a=1&b" to pairs; nothing when an escape is broken.
[[nodiscard]] std::optional<std::map<std::string, std::string>> parse_query(std::string_view query);

}  // namespace pgporter
