// Who logs in, and which tenant does the client speak for? A pure function of configuration, catalog and startup
// packet.
//
// A tenant can be named in five ways, each of which can be switched off (then it isn't looked at):
//   options       -c pgporter.tenant=acme in `options`, or the startup parameter pgporter.tenant
//   user suffix   user app.acme, unless the whole name is a known user
//   database      app@acme, or just the tenant's name
//   search_path   the schema of a tenant in the list
//   TLS server name   acme.<sni_suffix>, or a domain of the tenant's own
// All that are present must agree. An error may tell whether a schema or a name is a tenant's: it is for clients that
// have authenticated (as login_user()), nobody else.
#pragma once

#include <string>

#include "base/result.hpp"
#include "catalog/config.hpp"
#include "catalog/snapshot.hpp"
#include "router/login_request.hpp"

namespace pgporter {

[[nodiscard]] Result<Identity> identify(const IdentifyConfig& config, const Snapshot& snapshot,
                                        const LoginRequest& request);

// The user that logs in, without a tenant suffix; empty: none was named. The same as Identity::user, also where
// identify() fails.
[[nodiscard]] std::string login_user(const IdentifyConfig& config, const Snapshot& snapshot,
                                     const LoginRequest& request);

}  // namespace pgporter
