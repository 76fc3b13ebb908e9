// ApiRequest, ApiResponse: what the resources see of HTTP. Plain values without Beast, so that every resource can be tested
// without a socket. Any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pgporter {

struct ApiRequest {
    std::string method;
    std::string target;                          // as sent: path and query
    std::string path;                            // still percent-encoded
    std::map<std::string, std::string> query;    // decoded; the last of a name wins
    std::map<std::string, std::string> params;   // of the route's pattern, decoded: "name", "id"
    std::string content_type;                    // lower case, without parameters
    std::string if_none_match;
    std::string idempotency_key;
    std::string body;
};

struct ApiResponse {
    unsigned status = 200;
    std::string content_type = "application/json";
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers;
};

}  // namespace pgporter
