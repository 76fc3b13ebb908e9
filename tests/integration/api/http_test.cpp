// HTTP itself: who gets in, what is refused, what must not break the server.
#include <doctest/doctest.h>

#include <thread>

#include "tests/integration/api/api_fixture.hpp"

using namespace pgporter;
using namespace pgporter::test;

namespace {

ApiFixture& api() { return ApiFixture::instance(); }

std::string code_of(const Reply& reply) {
    CHECK(reply["Content-Type"] == "application/problem+json");
    const auto body = boost::json::parse(reply.body());
    CHECK(body.at("status").as_int64() == reply.result_int());
    const std::string type(body.at("type").as_string());
    const std::string prefix = "urn:pgporter:problem:";
    CHECK(type.starts_with(prefix));
    return type.substr(prefix.size());
}

}  // namespace

TEST_CASE("health, metrics and the description need no token on loopback") {
    const Headers none{{"Authorization", "Basic x"}};
    CHECK(api().ask("GET", "/healthz", {}, none).result_int() == 200);
    const auto ready = api().ask("GET", "/readyz", {}, none);
    CHECK(ready.result_int() == 200);
    CHECK(boost::json::parse(ready.body()).at("catalog_connected").as_bool());
    const auto metrics = api().ask("GET", "/metrics", {}, none);
    CHECK(metrics.result_int() == 200);
    CHECK(metrics.body().find("\npgporter_api_connections 1\n") != std::string::npos);
    CHECK(metrics.body().find("pgporter_api_requests_total{method=\"GET\",route=\"/healthz\",status=\"200\"}") != std::string::npos);
    CHECK(boost::json::parse(api().ask("GET", "/openapi.json", {}, none).body()).at("openapi").as_string() == "3.1.0");
}

TEST_CASE("a draining instance isn't ready but healthy") {
    api().draining = true;
    const auto reply = api().get("/readyz");
    CHECK(reply.result_int() == 503);
    CHECK(boost::json::parse(reply.body()).at("status").as_string() == "draining");
    CHECK(api().get("/healthz").result_int() == 200);
    api().draining = false;
    CHECK(api().get("/readyz").result_int() == 200);
}

TEST_CASE("everything else needs the right token") {
    for (const auto& value : {std::string("Bearer wrong-token-0123456789"), std::string("Bearer"), std::string("Basic ") + token}) {
        for (const auto* target : {"/v1/tenants", "/v1/moves/1/events", "/v1/nothing", "/v1"}) {
            const auto reply = api().ask("GET", target, {}, {{"Authorization", value}});
            CHECK(reply.result_int() == 401);
            CHECK(reply["WWW-Authenticate"].starts_with("Bearer"));
            CHECK(code_of(reply) == "unauthenticated");
        }
    }
    CHECK(api().get("/v1/tenants").result_int() == 200);
}

TEST_CASE("foreign names, unknown addresses and wrong methods are refused") {
    CHECK(code_of(api().ask("GET", "/healthz", {}, {{"Host", "evil.example"}})) == "wrong_host");
    CHECK(code_of(api().get("/v1/nothing")) == "unknown_route");
    CHECK(code_of(api().get("/")) == "unknown_route");
    const auto reply = api().ask("PUT", "/v1/tenants/acme");
    CHECK(reply.result_int() == 405);
    CHECK(reply["Allow"] == "GET, DELETE");
    CHECK(code_of(api().get("/v1/tenants?limit=%zz")) == "invalid");
}

TEST_CASE("HEAD is GET without a body, and the connection goes on") {
    RawClient client(api().server->port());
    client.send(request_text("HEAD", "/healthz", {}, {}));
    const auto head = client.read_head_only();
    CHECK(head.result_int() == 200);
    CHECK(head["Content-Length"] != "0");
    client.send(request_text("HEAD", "/v1/nothing", {}, {}));
    CHECK(client.read_head_only().result_int() == 404);
    client.send(request_text("GET", "/healthz", {}, {}));
    CHECK(client.read().body().find("ok") != std::string::npos);
}

TEST_CASE("requests may be pipelined and come in any pieces") {
    RawClient client(api().server->port());
    const auto one = request_text("GET", "/v1/tenants?limit=1", {}, {});
    const auto two = request_text("POST", "/v1/nothing", "{}", {});
    client.send(one + one);
    CHECK(client.read().result_int() == 200);
    CHECK(client.read().result_int() == 200);
    for (const char c : one) client.send(std::string_view(&c, 1));
    CHECK(client.read().result_int() == 200);
    client.send(two);
    CHECK(client.read().result_int() == 404);
}

TEST_CASE("what isn't HTTP gets 400 and the end of the connection") {
    for (const std::string& bytes : {std::string("hello\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"), std::string("GET  HTTP/1.1\r\n\r\n"),
                                     std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 16), std::string("GET / HTTP/1.1\r\nbad header\r\n\r\n"),
                                     std::string("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"),
                                     std::string("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")}) {
        CAPTURE(bytes);
        RawClient client(api().server->port());
        client.send(bytes);
        const auto answer = client.read_to_end();
        CHECK(answer.starts_with("HTTP/1.1 400 "));
        CHECK(answer.find("Connection: close") != std::string::npos);
    }
    RawClient client(api().server->port());
    client.send("GET / HT");
    client.close_sending();
    CHECK(client.read_to_end().empty());
    CHECK(api().get("/healthz").result_int() == 200);
}

TEST_CASE("headers and bodies over their bounds are refused, declared or not") {
    {
        RawClient client(api().server->port());
        client.send(request_text("GET", "/healthz", {}, {{"X-Long", std::string(20'000, 'x')}}));
        CHECK(code_of(client.read()) == "header_too_large");
    }
    {
        RawClient client(api().server->port());
        client.send("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 5000000\r\n\r\n" +
                    std::string(1000, 'x'));
        CHECK(code_of(client.read()) == "body_too_large");
    }
    {
        RawClient client(api().server->port());
        client.send("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\nTransfer-Encoding: chunked\r\n\r\n");
        const std::string piece = "10000\r\n" + std::string(0x10000, 'x') + "\r\n";
        for (int i = 0; i < 65; ++i) client.send(piece);
        CHECK(code_of(client.read()) == "body_too_large");
    }
    {  // without the token the body isn't even read
        RawClient client(api().server->port());
        client.send("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\nExpect: 100-continue\r\n\r\n");
        CHECK(client.read().result_int() == 401);
    }
    CHECK(api().get("/healthz").result_int() == 200);
}

TEST_CASE("a client that asks before it sends is told to go on") {
    RawClient client(api().server->port());
    const std::string body = "tenants: []\n";
    client.send("POST /v1/apply?dry_run=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token +
                "\r\nContent-Type: application/yaml\r\nExpect: 100-continue\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n");
    CHECK(client.read_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(body);
    CHECK(client.read().result_int() == 200);
}

TEST_CASE("connections are bounded") {
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int i = 0; i < 200; ++i) {
        clients.push_back(std::make_unique<RawClient>(api().server->port()));
        clients.back()->send(request_text("GET", "/healthz", {}, {}));
        CHECK(clients.back()->read().result_int() == 200);
    }
    CHECK(RawClient(api().server->port()).read_to_end().starts_with("HTTP/1.1 503 "));
    clients.clear();
    // The places are free again once the server has seen the ends.
    int status = 0;
    for (int i = 0; i < 500 && status != 200; ++i) {
        RawClient client(api().server->port());
        boost::system::error_code ignored;
        try {
            client.send(request_text("GET", "/healthz", {}, {}));
            status = static_cast<int>(client.read().result_int());
        } catch (const boost::system::system_error&) {
            status = 0;
        }
    }
    CHECK(status == 200);
}

TEST_CASE("a port in use is a clear error") {
    auto config = api().config;
    config.admin.port = api().server->port();
    HttpServer second({config, *api().store, *api().follower, api().publisher, *api().mover, api().registry, {}});
    const auto started = second.start();
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error().kind == ErrorKind::unavailable);
    CHECK(started.error().message.find(std::to_string(config.admin.port)) != std::string::npos);
    config.admin.port = 0;
    config.admin.address = "0.0.0.0";
    HttpServer open({config, *api().store, *api().follower, api().publisher, *api().mover, api().registry, {}});
    CHECK_FALSE(open.start().has_value());
}

TEST_CASE("health answers while the catalog hangs, and the change is answered when it is back") {
    CHECK(api().apply(api().catalog_yaml()).result_int() == 200);
    api().postgres.pause();
    RawClient waiting(api().server->port());
    waiting.send(request_text("POST", "/v1/tenants/acme:resume", {}, {}));
    CHECK(api().get("/healthz").result_int() == 200);
    CHECK(api().get("/readyz").result_int() == 200);
    CHECK(api().get("/v1/tenants/acme").result_int() == 200);
    api().postgres.resume();
    CHECK(waiting.read().result_int() == 200);
}

TEST_CASE("a server stops with open connections and streams, and starts nothing again") {
    HttpServer server({api().config, *api().store, *api().follower, api().publisher, *api().mover, api().registry, {}});
    REQUIRE(server.start().has_value());
    RawClient idle(server.port());
    RawClient half(server.port());
    half.send("GET /v1/ten");
    RawClient busy(server.port());
    for (int i = 0; i < 50; ++i) busy.send(request_text("GET", "/v1/tenants", {}, {}));
    server.stop();
    CHECK(idle.read_to_end().empty());
    CHECK(half.read_to_end().empty());
    server.stop();
}
