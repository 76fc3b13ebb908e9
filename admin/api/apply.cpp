// POST /v1/apply: the catalog is made to match a document (tenants.yaml).
#include "admin/api/json_views.hpp"
#include "admin/api/problem.hpp"
#include "admin/api/resources.hpp"
#include "catalog/document.hpp"

namespace pgporter {
namespace {

bool is_yaml(const std::string& content_type) {
    return content_type == "application/yaml" || content_type == "application/x-yaml" || content_type == "text/yaml";
}

}  // namespace

ApiResponse apply_document(const ApiPorts& ports, const ApiRequest& request) {
    if (!is_yaml(request.content_type)) {
        return problem_response(Problem{415, "unsupported_media_type", "This media type isn't taken here",
                                        "the body must be a YAML document", "send Content-Type: application/yaml"},
                                request.path);
    }
    const auto dry_run = bool_query(request, "dry_run");
    if (!dry_run) return problem_response(dry_run.error(), request.path);
    const auto name = request.query.find("name");
    const auto document = parse_catalog_document(request.body, name == request.query.end() ? "document" : name->second);
    if (!document) return problem_response(document.error(), request.path);
    const auto report = ports.store.apply(*document, *dry_run);
    if (!report) return problem_response(report.error(), request.path);
    auto view = view_of(*report, *dry_run);
    if (!*dry_run) view["routed"] = route_by_change(ports);
    return json_response(200, view);
}

}  // namespace pgporter
