#include "admin/api/auth.hpp"

#include <boost/asio/ip/address.hpp>
#include <boost/beast/core/string.hpp>
#include <string>

namespace pgporter {
namespace {

std::string_view host_without_port(std::string_view host) {
    if (!host.empty() && host.front() == '[') {
        const auto close = host.find(']');
        return close == std::string_view::npos ? std::string_view{} : host.substr(1, close - 1);
    }
    const auto colon = host.rfind(':');
    return colon == std::string_view::npos ? host : host.substr(0, colon);
}

}  // namespace

bool is_loopback_address(std::string_view address) {
    boost::system::error_code ec;
    const auto parsed = boost::asio::ip::make_address(std::string(address), ec);
    return !ec && parsed.is_loopback();
}

std::optional<Problem> check_token(const AdminConfig& config, Access access, std::string_view authorization) {
    if (access == Access::open) return std::nullopt;
    if (access == Access::open_on_loopback && is_loopback_address(config.address)) return std::nullopt;
    if (config.token.empty()) {
        return Problem{403, "no_token_configured", "The API is closed", "this instance has no admin token configured",
                       "set admin.token_file or admin.token_env in pgporter.yaml and restart"};
    }
    constexpr std::string_view scheme = "bearer ";
    if (authorization.size() > scheme.size() && boost::beast::iequals(authorization.substr(0, scheme.size()), scheme)) {
        auto token = authorization.substr(scheme.size());
        while (!token.empty() && token.front() == ' ') token.remove_prefix(1);
        if (config.token.equals(token)) return std::nullopt;
    }
    auto problem = problem_from(fail(ErrorKind::unauthenticated, authorization.empty() ? "no token was sent" : "the token isn't valid", {},
                                     "send 'Authorization: Bearer <token>'; the command line reads PGPORTER_TOKEN_FILE"));
    return problem;
}

std::optional<Problem> check_host(const AdminConfig& config, std::string_view host) {
    if (!is_loopback_address(config.address)) return std::nullopt;
    const auto name = host_without_port(host);
    if (is_loopback_address(name) || boost::beast::iequals(name, "localhost") || name == config.address) return std::nullopt;
    return Problem{421, "wrong_host", "This name isn't served here", "the Host header names neither localhost nor a loopback address",
                   "call the API as http://127.0.0.1:<port>"};
}

}  // namespace pgporter
