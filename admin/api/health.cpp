// Health: answered from memory, never by asking the catalog: a catalog that is down must not get a working proxy restarted.
#include <boost/json.hpp>

#include "admin/api/json_views.hpp"
#include "admin/api/resources.hpp"

namespace pgporter {

ApiResponse healthz(const ApiPorts&, const ApiRequest&) { return json_response(200, boost::json::object{{"status", "ok"}}); }

ApiResponse readyz(const ApiPorts& ports, const ApiRequest&) {
    const auto snapshot = ports.publisher.current();
    const bool draining = ports.draining && ports.draining();
    const bool ready = snapshot && !draining;
    boost::json::object body{{"status", ready ? "ready" : draining ? "draining" : "starting"},
                             {"catalog_connected", ports.follower.connected()}};
    if (snapshot) body["catalog_version"] = snapshot->version().value;
    return json_response(ready ? 200 : 503, body);
}

}  // namespace pgporter
