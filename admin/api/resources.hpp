// The resources: one function an endpoint, one .cpp a resource. Each is a plain function from a request to an answer that may
// block on the catalog or a cluster when its route says so; called on the API's work threads (or its I/O thread when it doesn't block).
#pragma once

#include "admin/api/api_message.hpp"
#include "admin/api/http_server.hpp"

namespace pgporter {

// tenants.cpp
[[nodiscard]] ApiResponse list_tenants(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse get_tenant(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse suspend_tenant(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse resume_tenant(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse forget_tenant(const ApiPorts& ports, const ApiRequest& request);
// promote.cpp
[[nodiscard]] ApiResponse start_move(const ApiPorts& ports, const ApiRequest& request, MoveKind kind);
// clusters.cpp
[[nodiscard]] ApiResponse list_clusters(const ApiPorts& ports, const ApiRequest& request);
// doctor.cpp
[[nodiscard]] ApiResponse check_database(const ApiPorts& ports, const ApiRequest& request);
// apply.cpp
[[nodiscard]] ApiResponse apply_document(const ApiPorts& ports, const ApiRequest& request);
// moves.cpp
[[nodiscard]] ApiResponse list_moves(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse get_move(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse cancel_move(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse cutover_move(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse rollback_move(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse complete_move(const ApiPorts& ports, const ApiRequest& request);
// The move that a request's {id} names; not_found for anything that isn't one.
[[nodiscard]] Result<MoveRecord> find_requested_move(const ApiPorts& ports, const ApiRequest& request);
// health.cpp
[[nodiscard]] ApiResponse healthz(const ApiPorts& ports, const ApiRequest& request);
[[nodiscard]] ApiResponse readyz(const ApiPorts& ports, const ApiRequest& request);
// metrics_page.cpp
[[nodiscard]] ApiResponse metrics_page(const ApiPorts& ports, const ApiRequest& request);

// request_options.cpp: what several resources read from a request.
[[nodiscard]] Result<bool> bool_query(const ApiRequest& request, const char* name);
[[nodiscard]] Result<std::size_t> limit_query(const ApiRequest& request, std::size_t otherwise, std::size_t limit_max);
// After a change through this instance: routes by it before the answer. False (logged): the follower will catch up.
[[nodiscard]] bool route_by_change(const ApiPorts& ports);

}  // namespace pgporter
