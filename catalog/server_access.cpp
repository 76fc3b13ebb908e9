#include "catalog/server_access.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace pgporter {
namespace {

// libpq spells the modes with hyphens.
std::string_view sslmode_of(ServerTls tls) {
    switch (tls) {
        case ServerTls::disable:
            return "disable";
        case ServerTls::require:
            return "require";
        case ServerTls::verify_ca:
            return "verify-ca";
        case ServerTls::verify_full:
            return "verify-full";
    }
    PP_ASSERT(false);
}

bool fits(const std::string& pattern, std::string_view name) {
    return pattern == "*" || pattern == name;
}

}  // namespace

const Secret* find_server_login(const Config& config, std::string_view cluster, std::string_view user) {
    for (const auto& login : config.server_logins) {
        if (fits(login.cluster, cluster) && fits(login.user, user)) return &login.password;
    }
    return nullptr;
}

LibpqParams libpq_params(const Config& config, const Cluster& cluster, std::string_view database, std::string_view user,
                         std::string_view purpose) {
    LibpqParams params;
    auto& keywords = params.keywords;
    keywords.emplace_back("host", cluster.host);
    keywords.emplace_back("port", std::to_string(cluster.port));
    keywords.emplace_back("dbname", std::string(database));
    keywords.emplace_back("user", std::string(user));
    keywords.emplace_back("sslmode", std::string(sslmode_of(cluster.tls)));
    if (!cluster.tls_ca_file.empty()) keywords.emplace_back("sslrootcert", cluster.tls_ca_file);
    // A ticket of whoever runs this process must not decide how it logs in to a tenant's cluster.
    keywords.emplace_back("gssencmode", "disable");
    // libpq counts in whole seconds and takes 1 for 2; 0 would mean to wait for ever.
    const auto seconds = (config.mover.connect_timeout_ms.count() + 999) / 1000;
    keywords.emplace_back("connect_timeout", std::to_string(std::max<std::int64_t>(seconds, 2)));
    keywords.emplace_back("application_name", "pgporter " + std::string(purpose));
    if (const Secret* password = find_server_login(config, cluster.name, user)) params.password = *password;
    return params;
}

}  // namespace pgporter
