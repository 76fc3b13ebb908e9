#include "admin/api/routes.hpp"

#include <array>
#include <utility>

namespace pgporter {
namespace {

constexpr std::array routes{
    Route{"GET", "/v1/tenants", Endpoint::list_tenants, Access::token, true},
    Route{"GET", "/v1/tenants/{name}", Endpoint::get_tenant, Access::token, false},
    Route{"DELETE", "/v1/tenants/{name}", Endpoint::forget_tenant, Access::token, true},
    Route{"POST", "/v1/tenants/{name}:promote", Endpoint::promote_tenant, Access::token, true},
    Route{"POST", "/v1/tenants/{name}:demote", Endpoint::demote_tenant, Access::token, true},
    Route{"POST", "/v1/tenants/{name}:relocate", Endpoint::relocate_tenant, Access::token, true},
    Route{"POST", "/v1/tenants/{name}:suspend", Endpoint::suspend_tenant, Access::token, true},
    Route{"POST", "/v1/tenants/{name}:resume", Endpoint::resume_tenant, Access::token, true},
    Route{"GET", "/v1/clusters", Endpoint::list_clusters, Access::token, true},
    Route{"POST", "/v1/clusters/{cluster}/databases/{database}:check", Endpoint::check_database, Access::token, true},
    Route{"POST", "/v1/apply", Endpoint::apply_document, Access::token, true},
    Route{"GET", "/v1/moves", Endpoint::list_moves, Access::token, true},
    Route{"GET", "/v1/moves/{id}", Endpoint::get_move, Access::token, true},
    Route{"POST", "/v1/moves/{id}:cancel", Endpoint::cancel_move, Access::token, true},
    Route{"POST", "/v1/moves/{id}:cutover", Endpoint::cutover_move, Access::token, true},
    Route{"POST", "/v1/moves/{id}:rollback", Endpoint::rollback_move, Access::token, true},
    Route{"POST", "/v1/moves/{id}:complete", Endpoint::complete_move, Access::token, true},
    Route{"GET", "/v1/moves/{id}/events", Endpoint::move_events, Access::token, true},
    Route{"GET", "/healthz", Endpoint::healthz, Access::open, false},
    Route{"GET", "/readyz", Endpoint::readyz, Access::open, false},
    Route{"GET", "/metrics", Endpoint::metrics_page, Access::open_on_loopback, false},
    Route{"GET", "/openapi.json", Endpoint::openapi, Access::open, false},
};

constexpr std::size_t segments_max = 8;

std::vector<std::string_view> split_path(std::string_view path) {
    std::vector<std::string_view> segments;
    if (path.empty() || path.front() != '/') return segments;
    path.remove_prefix(1);
    while (segments.size() < segments_max) {
        const auto slash = path.find('/');
        segments.push_back(path.substr(0, slash));
        if (slash == std::string_view::npos) return segments;
        path.remove_prefix(slash + 1);
    }
    return {};
}

// One segment of a pattern against one decoded segment of a path.
bool match_segment(std::string_view pattern, const std::string& segment, std::map<std::string, std::string>& params) {
    if (pattern.empty() || pattern.front() != '{') return pattern == segment;
    const auto close = pattern.find('}');
    const auto verb = pattern.substr(close + 1);  // ":verb" or empty
    const auto colon = segment.rfind(':');
    const auto actual_verb = colon == std::string::npos ? std::string_view{} : std::string_view(segment).substr(colon);
    if (actual_verb != verb) return false;
    auto value = segment.substr(0, segment.size() - verb.size());
    if (value.empty()) return false;
    params[std::string(pattern.substr(1, close - 1))] = std::move(value);
    return true;
}

bool match_pattern(std::string_view pattern, const std::vector<std::string>& segments, std::map<std::string, std::string>& params) {
    const auto wanted = split_path(pattern);
    if (wanted.size() != segments.size()) return false;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (!match_segment(wanted[i], segments[i], params)) return false;
    }
    return true;
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

}  // namespace

std::span<const Route> route_table() { return routes; }

RouteMatch match_route(std::string_view method, std::string_view path) {
    RouteMatch match;
    std::vector<std::string> segments;
    for (const auto segment : split_path(path)) {
        auto decoded = percent_decode(segment);
        if (!decoded) return match;
        segments.push_back(std::move(*decoded));
    }
    for (const auto& route : routes) {
        std::map<std::string, std::string> params;
        if (!match_pattern(route.pattern, segments, params)) continue;
        match.allowed.push_back(route.method);
        if (route.method == method) {
            match.route = &route;
            match.params = std::move(params);
        }
    }
    return match;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '+' && plus_is_space) c = ' ';
        if (text[i] == '%') {
            if (i + 2 >= text.size()) return std::nullopt;
            const int high = hex_digit(text[i + 1]);
            const int low = hex_digit(text[i + 2]);
            if (high < 0 || low < 0) return std::nullopt;
            c = static_cast<char>(high * 16 + low);
            i += 2;
        }
        if (c == '\0') return std::nullopt;
        out.push_back(c);
    }
    return out;
}

std::optional<std::map<std::string, std::string>> parse_query(std::string_view query) {
    std::map<std::string, std::string> out;
    while (!query.empty()) {
        const auto end = query.find('&');
        const auto pair = query.substr(0, end);
        query = end == std::string_view::npos ? std::string_view{} : query.substr(end + 1);
        if (pair.empty()) continue;
        const auto equals = pair.find('=');
        auto name = percent_decode(pair.substr(0, equals), true);
        auto value = equals == std::string_view::npos ? std::optional<std::string>{""} : percent_decode(pair.substr(equals + 1), true);
        if (!name || !value) return std::nullopt;
        out[std::move(*name)] = std::move(*value);
    }
    return out;
}

}  // namespace pgporter
