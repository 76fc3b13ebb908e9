// LoginRequest: what a client said in its startup packet, split but not judged. Identity: who and which tenant that
// means. Plain values; any thread. Nothing here is proven: the client hasn't authenticated yet.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace pgporter {

struct User;

struct LoginRequest {
    std::vector<std::pair<std::string, std::string>> parameters;  // of the startup packet, as sent, in its order
    std::vector<std::pair<std::string, std::string>>
        option_settings;  // -c name=value and --name=value of `options`, in their order
    std::string server_name;  // that the TLS client asked for (SNI), as sent; empty: none
    const User* speaker = nullptr;  // who asks, if it is who it says; null: may speak for everybody
};

struct Identity {
    std::string user;      // without a tenant suffix
    std::string database;  // as named, without "@tenant"; empty if none was named, or if the name was a tenant's
    std::string tenant;    // empty: none was named
    // Run-time parameters that the client asked for, from `options` and the startup packet (which wins, as in
    // PostgreSQL); without those that are no run-time parameters, pgporter.* and _pq_.*. One entry a name, whatever its
    // case.
    std::vector<std::pair<std::string, std::string>> settings;
};

}  // namespace pgporter
