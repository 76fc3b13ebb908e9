// The clusters resource: the servers of the catalog and how many tenants live on each.
#include <map>
#include <string>

#include "admin/api/json_views.hpp"
#include "admin/api/problem.hpp"
#include "admin/api/resources.hpp"

namespace pgporter {

ApiResponse list_clusters(const ApiPorts& ports, const ApiRequest& request) {
    const auto snapshot = ports.publisher.current();
    if (!snapshot) return problem_response(fail(ErrorKind::unavailable, "the catalog hasn't been read yet"), request.path);
    std::map<std::string, std::size_t> tenants;
    snapshot->for_each_tenant([&](const TenantPtr& tenant) { ++tenants[tenant->placement.cluster]; });
    boost::json::array items;
    for (const auto& cluster : snapshot->clusters()) {
        auto item = view_of(cluster);
        item["tenants"] = tenants[cluster.name];
        boost::json::array databases;
        for (const auto& database : snapshot->databases()) {
            if (database.cluster == cluster.name) databases.push_back(view_of(database));
        }
        item["databases"] = std::move(databases);
        items.push_back(std::move(item));
    }
    return json_response(200, boost::json::object{{"clusters", std::move(items)}});
}

}  // namespace pgporter
