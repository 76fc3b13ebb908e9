#include "admin/api/resources.hpp"
#include "admin/metrics/prometheus_text.hpp"

namespace pgporter {

ApiResponse metrics_page(const ApiPorts& ports, const ApiRequest&) {
    ApiResponse response;
    response.content_type = prometheus_content_type;
    response.body = render_prometheus(ports.registry);
    return response;
}

}  // namespace pgporter
