#include "admin/cli/http_client.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <utility>

namespace pgporter {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr std::chrono::seconds connect_max{5};
constexpr std::chrono::seconds silence_max{60};
constexpr std::uint64_t answer_bytes_max = 64 * 1024 * 1024;

// Asynchronous operations, each run to its end: Beast's deadlines work for these only.
class Exchange {
  public:
    explicit Exchange(const ServerUrl& url) : url_(url) {}

    Result<void> connect() {
        asio::ip::tcp::resolver resolver(io_);
        boost::system::error_code ec;
        const auto endpoints = resolver.resolve(url_.host, std::to_string(url_.port), ec);
        if (ec) return unreachable(ec);
        stream_.expires_after(connect_max);
        stream_.async_connect(endpoints, [&](boost::system::error_code e, const asio::ip::tcp::endpoint&) { ec = e; });
        run();
        if (ec) return unreachable(ec);
        return {};
    }

    Result<void> write(http::request<http::string_body>& request) {
        boost::system::error_code ec;
        stream_.expires_after(silence_max);
        http::async_write(stream_, request, [&](boost::system::error_code e, std::size_t) { ec = e; });
        run();
        // A server that refuses the body answers before it has read it all: its answer is what counts.
        if (ec && ec != asio::error::broken_pipe && ec != asio::error::connection_reset) return unreachable(ec);
        return {};
    }

    template <class Read>
    boost::system::error_code read(std::chrono::seconds wait_max, Read initiate) {
        boost::system::error_code ec;
        stream_.expires_after(wait_max);
        initiate(stream_, buffer_, [&](boost::system::error_code e, std::size_t) { ec = e; });
        run();
        return ec;
    }

    [[nodiscard]] Error unreachable(boost::system::error_code ec) const {
        return fail(ErrorKind::unavailable, "can't reach pgporter at " + url_.host_header, ec.message(),
                    "is it running? --url or PGPORTER_URL says where its admin API listens");
    }

  private:
    void run() {
        io_.restart();
        io_.run();
    }

    const ServerUrl& url_;
    asio::io_context io_{1};
    beast::tcp_stream stream_{io_};
    beast::flat_buffer buffer_;
};

http::request<http::string_body> request_of(const HttpCall& call, const ServerUrl& url, const Secret& token) {
    http::request<http::string_body> request{http::string_to_verb(call.method), call.target, 11};
    request.set(http::field::host, url.host_header);
    request.set(http::field::user_agent, "pgporter/" PGPORTER_VERSION);
    request.keep_alive(false);
    if (!token.empty()) request.set(http::field::authorization, "Bearer " + std::string(token.reveal()));
    if (!call.content_type.empty()) request.set(http::field::content_type, call.content_type);
    request.body() = call.body;
    request.prepare_payload();
    return request;
}

template <class Parser>
HttpReply head_of(const Parser& parser) {
    HttpReply reply;
    reply.status = parser.get().result_int();
    reply.content_type = std::string(parser.get()[http::field::content_type]);
    return reply;
}

}  // namespace

Result<ServerUrl> parse_server_url(std::string_view url) {
    const auto bad = [&](const char* why) {
        return fail(ErrorKind::invalid, std::string("the URL is wrong: ") + why, std::string(url), "for example http://127.0.0.1:6480");
    };
    constexpr std::string_view scheme = "http://";
    if (url.starts_with("https://")) return bad("only http:// is spoken here");
    if (!url.starts_with(scheme)) return bad("it must start with http://");
    auto rest = url.substr(scheme.size());
    if (!rest.empty() && rest.back() == '/') rest.remove_suffix(1);
    if (rest.find_first_of("/?#@ ") != std::string_view::npos) return bad("only a host and a port are taken");
    ServerUrl out;
    out.host_header = std::string(rest);
    std::string_view port = "80";
    if (const auto colon = rest.rfind(':'); colon != std::string_view::npos && rest.find(']', colon) == std::string_view::npos) {
        port = rest.substr(colon + 1);
        rest = rest.substr(0, colon);
    }
    if (rest.size() > 2 && rest.front() == '[' && rest.back() == ']') rest = rest.substr(1, rest.size() - 2);
    if (rest.empty()) return bad("it has no host");
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (parsed.ec != std::errc{} || parsed.ptr != port.data() + port.size() || out.port == 0) return bad("the port is no port");
    out.host = std::string(rest);
    return out;
}

Result<HttpReply> HttpClient::call(const HttpCall& call) const {
    Exchange exchange(url_);
    PP_TRY(exchange.connect());
    auto request = request_of(call, url_, token_);
    PP_TRY(exchange.write(request));
    http::response_parser<http::string_body> parser;
    parser.body_limit(answer_bytes_max);
    const auto ec = exchange.read(call.answer_max, [&](auto& stream, auto& buffer, auto done) {
        http::async_read(stream, buffer, parser, std::move(done));
    });
    if (ec) return exchange.unreachable(ec);
    auto reply = head_of(parser);
    reply.body = std::move(parser.get().body());
    return reply;
}

Result<HttpReply> HttpClient::watch(const std::string& target, const std::string& last_event_id,
                                    const std::function<bool(const SseEvent&)>& handler) const {
    Exchange exchange(url_);
    PP_TRY(exchange.connect());
    HttpCall call;
    call.target = target;
    auto request = request_of(call, url_, token_);
    request.set(http::field::accept, "text/event-stream");
    if (!last_event_id.empty()) request.set("Last-Event-ID", last_event_id);
    PP_TRY(exchange.write(request));
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    auto ec = exchange.read(silence_max, [&](auto& stream, auto& buffer, auto done) {
        http::async_read_header(stream, buffer, parser, std::move(done));
    });
    if (ec) return exchange.unreachable(ec);
    auto reply = head_of(parser);
    bool wanted = true;
    SseParser events([&](const SseEvent& event) { wanted = wanted && handler(event); });
    const bool is_stream = reply.status == 200;
    while (!parser.is_done() && wanted) {
        ec = exchange.read(silence_max, [&](auto& stream, auto& buffer, auto done) {
            http::async_read_some(stream, buffer, parser, std::move(done));
        });
        if (ec) break;
        if (!is_stream) continue;
        const auto bytes = std::exchange(parser.get().body(), {});
        if (!events.feed(bytes)) return fail(ErrorKind::internal, "an event is larger than this client takes");
    }
    if (ec && ec != http::error::end_of_stream) return exchange.unreachable(ec);
    if (!is_stream) reply.body = std::move(parser.get().body());
    return reply;
}

}  // namespace pgporter
