// A small synchronous HTTP/1.1 client for the admin API: one connection a request, every wait bounded. One thread. Plain HTTP only:
// the API listens on loopback; from elsewhere use an SSH tunnel or the TLS proxy in front.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "admin/cli/sse_parser.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace pgporter {

struct ServerUrl {
    std::string host;
    std::uint16_t port = 0;
    std::string host_header;
};
[[nodiscard]] Result<ServerUrl> parse_server_url(std::string_view url);

struct HttpReply {
    unsigned status = 0;
    std::string content_type;
    std::string body;
};

struct HttpCall {
    std::string method = "GET";
    std::string target;
    std::string content_type{};
    std::string body{};
    std::chrono::seconds answer_max{60};
};

class HttpClient {
  public:
    HttpClient(ServerUrl url, Secret token) : url_(std::move(url)), token_(std::move(token)) {}

    // unavailable: nobody answered. Any HTTP status is a success here.
    [[nodiscard]] Result<HttpReply> call(const HttpCall& call) const;
    // Reads events until the server ends the stream, `handler` returns false, or nothing (not even a heartbeat) came for 60 seconds.
    // An answer that isn't a stream comes back as the reply; a stream's reply has status 200 and no body.
    [[nodiscard]] Result<HttpReply> watch(const std::string& target, const std::string& last_event_id,
                                          const std::function<bool(const SseEvent&)>& handler) const;

  private:
    ServerUrl url_;
    Secret token_;
};

}  // namespace pgporter
