// How the control plane connects to a cluster with libpq: keyword/value pairs for PQconnectdbParams, so that no password is ever
// in a command line or a log. Pure; any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "catalog/config.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {

struct LibpqParams {
    std::vector<std::pair<std::string, std::string>> keywords;  // host, port, dbname, user, sslmode, connect_timeout, application_name...
    Secret password;                                            // empty: none
};

// The secret that server_logins gives for this cluster and user; null: none is configured.
[[nodiscard]] const Secret* find_server_login(const Config& config, std::string_view cluster, std::string_view user);
// `purpose` becomes part of application_name ("pgporter mover 17").
[[nodiscard]] LibpqParams libpq_params(const Config& config, const Cluster& cluster, std::string_view database,
                                       std::string_view user, std::string_view purpose);

}  // namespace pgporter
