// Who may ask: the bearer token, and the Host header (against DNS rebinding: a web page in a browser on this machine must not reach
// a loopback API under a name of its own). Pure; any thread.
#pragma once

#include <optional>
#include <string_view>

#include "admin/api/problem.hpp"
#include "admin/api/routes.hpp"
#include "catalog/config.hpp"

namespace pgporter {

[[nodiscard]] bool is_loopback_address(std::string_view address);

// Nothing: the request may go on. Without a configured token, what needs one is forbidden to everybody.
[[nodiscard]] std::optional<Problem> check_token(const AdminConfig& config, Access access, std::string_view authorization);
// Nothing: this Host is one of ours. Only a loopback listener checks names; any port is accepted (SSH tunnels).
[[nodiscard]] std::optional<Problem> check_host(const AdminConfig& config, std::string_view host);

}  // namespace pgporter
