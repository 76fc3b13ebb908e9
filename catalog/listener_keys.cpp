#include "catalog/listener_keys.hpp"

#include <set>

#include "base/ip_address.hpp"

namespace pgporter {
namespace {

constexpr std::uint32_t instance_id_max = 255;
constexpr std::int64_t day_ms = 86'400'000;
// Every receiver must take so much (specification of the PROXY protocol, section 2.2).
constexpr std::uint64_t proxy_header_bytes_least = 536;

// Octal, as chmod takes them: 0770 or "0770", which YAML reads alike as text.
void read_permissions(YamlMapping& mapping, std::uint32_t& out) {
    std::string text;
    mapping.text("socket_permissions", text);
    if (text.empty()) return;
    if (text.size() > 4 || text.find_first_not_of("01234567") != std::string::npos || std::stoul(text, nullptr, 8) > 0777) {
        return mapping.problem("socket_permissions", "must be octal, 0000 to 0777");
    }
    out = static_cast<std::uint32_t>(std::stoul(text, nullptr, 8));
}

void read_local_socket(YamlMapping& mapping, ListenConfig& listener) {
    mapping.text("socket_directory", listener.socket_directory);
    read_permissions(mapping, listener.socket_permissions);
    if (!listener.is_local_socket()) {
        if (mapping.has("socket_permissions")) mapping.problem("socket_permissions", "is for listeners with socket_directory");
        return;
    }
    if (listener.socket_directory.front() != '/') mapping.problem("socket_directory", "must be an absolute path");
    if (mapping.has("address")) mapping.problem("address", "a listener has either an address or a socket_directory");
    if (mapping.has("tls")) mapping.problem("tls", "there is no TLS on a Unix-domain socket");
}

}  // namespace

void read_listener_doors(YamlMapping& mapping, ListenConfig& listener) {
    read_local_socket(mapping, listener);
    mapping.choice("proxy_protocol", listener.proxy_protocol, {{"off", ProxyProtocol::off}, {"required", ProxyProtocol::required}});
    mapping.texts("proxy_protocol_from", listener.proxy_protocol_from);
    for (const std::string& block : listener.proxy_protocol_from) {
        if (parse_cidr(block)) continue;
        mapping.problem("proxy_protocol_from", block + " is no CIDR block, like 10.0.0.0/8 or 2001:db8::/32 (bits behind the prefix must be zero)");
    }
    if (listener.proxy_protocol == ProxyProtocol::off && !listener.proxy_protocol_from.empty()) {
        mapping.problem("proxy_protocol_from", "needs proxy_protocol: required");
    }
    std::string auth;  // read for good by the caller
    if (listener.proxy_protocol == ProxyProtocol::required && mapping.has("auth")) {
        mapping.choice("auth", auth, {{"scram", std::string("scram")}, {"trust", std::string("trust")}, {"cert", std::string("cert")}, {"peer", std::string("peer")}});
        if (auth == "peer") mapping.problem("auth", "peer would let in whoever runs the load balancer; use scram with proxy_protocol");
        if (auth == "trust") mapping.problem("auth", "trust lets everybody in whom the load balancer lets through; use scram with proxy_protocol");
    }
    mapping.boolean("replication", listener.replication);
}

void read_login_limits(YamlMapping& mapping, LimitsConfig& limits) {
    mapping.number("cancel_forwards_max", limits.cancel_forwards_max, 1, 100'000);
    mapping.number("proxy_header_bytes_max", limits.proxy_header_bytes_max, proxy_header_bytes_least, 65'551);
    mapping.number("logins_per_address_max", limits.logins_per_address_max, 0, 1'000'000);
    mapping.number("auth_failures_max", limits.auth_failures_max, 0, 1'000'000);
    mapping.milliseconds("auth_failure_window_ms", limits.auth_failure_window_ms, 100, day_ms);
    mapping.number("auth_failure_addresses_max", limits.auth_failure_addresses_max, 1, 10'000'000);
}

void read_peers(YamlMapping& top, YamlProblems& problems, Config& config) {
    top.number("instance_id", config.instance_id, 1, instance_id_max);
    std::set<std::uint32_t> seen{config.instance_id};
    for (const auto& item : top.list("peers")) {
        YamlMapping mapping(problems, item.node, item.path);
        PeerConfig& peer = config.peers.emplace_back();
        mapping.require({"id", "address"});
        mapping.number("id", peer.id, 1, instance_id_max);
        mapping.text("address", peer.address);
        mapping.number("port", peer.port, 1, 65'535);
        if (mapping.has("address") && !parse_ip(peer.address)) mapping.problem("address", "must be a numeric IPv4 or IPv6 address");
        if (mapping.has("id") && !seen.insert(peer.id).second) {
            mapping.problem("id", std::to_string(peer.id) + " is another instance, or this one (instance_id)");
        }
        mapping.finish();
    }
    if (!config.peers.empty() && config.instance_id == 0) top.problem("peers", "need an instance_id of this instance too");
}

}  // namespace pgporter
