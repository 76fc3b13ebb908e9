// How the API shows things: pure functions from values to JSON, and from a request's JSON to values. Any thread.
// No view shows a secret: users' verifiers aren't part of any resource.
#pragma once

#include <boost/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "admin/api/api_message.hpp"
#include "admin/mover/mover.hpp"
#include "base/result.hpp"
#include "catalog/document.hpp"
#include "catalog/move.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {

[[nodiscard]] boost::json::object view_of(const Placement& placement);
[[nodiscard]] boost::json::object view_of(const Tenant& tenant);
[[nodiscard]] boost::json::object view_of(const Cluster& cluster);
[[nodiscard]] boost::json::object view_of(const Database& database);
[[nodiscard]] boost::json::object view_of(const MoveRecord& move);
[[nodiscard]] boost::json::object view_of(const PreflightReport& report, const MoveRequest& request);
[[nodiscard]] boost::json::object view_of(const ApplyReport& report, bool dry_run);

[[nodiscard]] ApiResponse json_response(unsigned status, const boost::json::value& body);

// The request's JSON object; an empty body is an empty object. Errors name line and column.
[[nodiscard]] Result<boost::json::object> parse_body(const ApiRequest& request);

// Where a promote, demote or relocate should go, from its body: {"to": {"cluster", "database"}} or the two at the top, "dry_run", "copy_jobs", "cutover".
struct PromoteBody {
    MoveRequest move;
    bool dry_run = false;
};
[[nodiscard]] Result<PromoteBody> parse_promote(MoveKind kind, std::string_view tenant, const boost::json::object& body);

}  // namespace pgporter
