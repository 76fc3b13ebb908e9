// The tenants resource: read from the snapshot that the data path routes by, changed in the catalog.
#include <algorithm>
#include <string>
#include <vector>

#include "admin/api/json_views.hpp"
#include "admin/api/problem.hpp"
#include "admin/api/resources.hpp"

namespace pgporter {
namespace {

constexpr std::size_t page_default = 100;
constexpr std::size_t page_max = 1000;

Error no_snapshot() { return fail(ErrorKind::unavailable, "the catalog hasn't been read yet"); }

Error no_tenant(const std::string& name) {
    return fail(ErrorKind::not_found, "there is no tenant '" + name + "'", {}, "list them: pgporter tenants");
}

// The `limit` smallest names after `after`, in order: one pass and a bounded heap, however many tenants there are.
std::vector<TenantPtr> page_of(const Snapshot& snapshot, const std::string& after, std::size_t limit) {
    const auto smaller = [](const TenantPtr& a, const TenantPtr& b) { return a->name < b->name; };
    std::vector<TenantPtr> heap;  // the largest name in front
    snapshot.for_each_tenant([&](const TenantPtr& tenant) {
        if (tenant->name <= after) return;
        if (heap.size() == limit && !(tenant->name < heap.front()->name)) return;
        if (heap.size() == limit) {
            std::pop_heap(heap.begin(), heap.end(), smaller);
            heap.pop_back();
        }
        heap.push_back(tenant);
        std::push_heap(heap.begin(), heap.end(), smaller);
    });
    std::sort_heap(heap.begin(), heap.end(), smaller);
    return heap;
}

ApiResponse change_state(const ApiPorts& ports, const ApiRequest& request, TenantState state) {
    const auto tenant = ports.store.set_tenant_state(request.params.at("name"), state);
    if (!tenant) return problem_response(tenant.error(), request.path);
    const bool routed = route_by_change(ports);
    auto view = view_of(*tenant);
    view["routed"] = routed;
    return json_response(200, view);
}

}  // namespace

ApiResponse list_tenants(const ApiPorts& ports, const ApiRequest& request) {
    const auto snapshot = ports.publisher.current();
    if (!snapshot) return problem_response(no_snapshot(), request.path);
    const auto limit = limit_query(request, page_default, page_max);
    if (!limit) return problem_response(limit.error(), request.path);
    const auto after = request.query.find("after");
    auto page = page_of(*snapshot, after == request.query.end() ? std::string{} : after->second, *limit + 1);
    const bool more = page.size() > *limit;
    if (more) page.pop_back();
    boost::json::array items;
    for (const auto& tenant : page) items.push_back(view_of(*tenant));
    boost::json::object body{{"tenants", std::move(items)}, {"total", snapshot->tenant_count()}};
    body["next_after"] = more ? boost::json::value(page.back()->name) : boost::json::value(nullptr);
    return json_response(200, body);
}

ApiResponse get_tenant(const ApiPorts& ports, const ApiRequest& request) {
    const auto snapshot = ports.publisher.current();
    if (!snapshot) return problem_response(no_snapshot(), request.path);
    const auto& name = request.params.at("name");
    const auto tenant = snapshot->find_tenant(name);
    if (!tenant) return problem_response(no_tenant(name), request.path);
    // The epoch changes with the placement, the catalog's version with everything else.
    const auto etag = "\"" + std::to_string(tenant->epoch.value) + "/" + std::to_string(snapshot->version().value) + "\"";
    ApiResponse response;
    if (request.if_none_match == etag) {
        response.status = 304;
    } else {
        response = json_response(200, view_of(*tenant));
    }
    response.headers.emplace_back("ETag", etag);
    return response;
}

ApiResponse suspend_tenant(const ApiPorts& ports, const ApiRequest& request) {
    return change_state(ports, request, TenantState::suspended);
}

ApiResponse resume_tenant(const ApiPorts& ports, const ApiRequest& request) { return change_state(ports, request, TenantState::active); }

ApiResponse forget_tenant(const ApiPorts& ports, const ApiRequest& request) {
    const auto& name = request.params.at("name");
    const auto removed = ports.store.remove_tenant(name);
    if (!removed) return problem_response(removed.error(), request.path);
    return json_response(200, boost::json::object{{"name", name}, {"forgotten", true}, {"routed", route_by_change(ports)}});
}

}  // namespace pgporter
