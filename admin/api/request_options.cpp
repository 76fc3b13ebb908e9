#include <charconv>

#include "admin/api/resources.hpp"
#include "base/log.hpp"

namespace pgporter {

Result<bool> bool_query(const ApiRequest& request, const char* name) {
    const auto found = request.query.find(name);
    if (found == request.query.end()) return false;
    if (found->second == "true" || found->second == "1" || found->second.empty()) return true;
    if (found->second == "false" || found->second == "0") return false;
    return fail(ErrorKind::invalid, "'" + std::string(name) + "' in the query must be true or false");
}

Result<std::size_t> limit_query(const ApiRequest& request, std::size_t otherwise, std::size_t limit_max) {
    const auto found = request.query.find("limit");
    if (found == request.query.end()) return otherwise;
    const auto& text = found->second;
    std::size_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || value < 1 || value > limit_max) {
        return fail(ErrorKind::invalid, "'limit' must be a number from 1 to " + std::to_string(limit_max));
    }
    return value;
}

bool route_by_change(const ApiPorts& ports) {
    const auto synced = ports.follower.sync_now();
    if (!synced) log::warning("api_sync_failed", {{"error", synced.error().message}});
    return synced.has_value();
}

}  // namespace pgporter
