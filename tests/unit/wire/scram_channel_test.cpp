// Channel binding: who may say what, on which channel.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "proxy/wire/auth_crypto.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/scram.hpp"
#include "proxy/wire/server_login.hpp"

using namespace pgporter;

namespace {

const std::string here(32, '\x11');   // the hash of the certificate that the connection ends at
const std::string other(32, '\x22');  // of somebody in between

ScramVerifier verifier_of(std::string_view password) {
    return parse_scram_verifier(make_scram_verifier(password, "salt", 8)).value();
}

// "ok", or the SQLSTATE and message of what went wrong.
std::string said(const Error& error) {
    return error.sqlstate + " " + error.message;
}

std::string login(const ScramChannel& client_channel, const ScramChannel& server_channel, bool is_mock = false) {
    ScramClient client(Secret("pencil"), nullptr, random_nonce(), client_channel);
    ScramServer server(verifier_of("pencil"), is_mock, random_nonce(), server_channel);
    const auto server_first = server.on_client_first(client.client_first());
    if (!server_first) return said(server_first.error());
    const auto client_final = client.on_server_first(*server_first);
    if (!client_final) return said(client_final.error());
    const auto server_final = server.on_client_final(*client_final);
    if (!server_final) return said(server_final.error());
    const auto checked = client.on_server_final(*server_final);
    if (!checked) return said(checked.error());
    CHECK(client.keys().client_key == server.learned().client_key);  // which no channel changes
    return "ok";
}

std::string first(const ScramChannel& channel, const std::string& data) {
    ScramServer server(verifier_of("pencil"), false, "server", channel);
    const auto answer = server.on_client_first(data);
    return answer ? "ok" : said(answer.error());
}

}  // namespace

TEST_CASE("PLUS is offered first, and only where there is something to bind to") {
    CHECK(scram_mechanisms({here}) == std::vector<std::string>{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"});
    CHECK(scram_mechanisms({}) == std::vector<std::string>{"SCRAM-SHA-256"});
}

TEST_CASE("a login bound to the channel, and one that somebody else is at the end of") {
    CHECK(login({here, true}, {here, true}) == "ok");
    CHECK(login({}, {}) == "ok");
    CHECK(login({}, {here}) == "ok");      // 'n': a client without channel binding
    CHECK(login({here}, {}) == "ok");      // 'y', and it is true that we didn't offer it
    CHECK(login({other, true}, {here, true}) == "28000 SCRAM channel binding check failed");
    CHECK(login({here}, {here}) == "28000 SCRAM channel binding negotiation error");  // 'y', but we did: somebody took the offer away
}

TEST_CASE("an unknown user's exchange goes the same way to its end") {
    CHECK(login({here, true}, {here, true}, true) == "28P01 password authentication failed");
    CHECK(login({other, true}, {here, true}, true) == "28000 SCRAM channel binding check failed");
    CHECK(login({here}, {here}, true) == "28000 SCRAM channel binding negotiation error");
}

TEST_CASE("client-first with every flag on every channel") {
    const std::string malformed = "08P01 malformed SCRAM message";
    CHECK(first({here, true}, "p=tls-server-end-point,,n=,r=abc") == "ok");
    CHECK(first({here, true}, "p=tls-unique,,n=,r=abc") == "08P01 unsupported SCRAM channel-binding type");
    CHECK(first({here, true}, "p=,,n=,r=abc") == "08P01 unsupported SCRAM channel-binding type");
    CHECK(first({here, true}, "p=tls-server-end-point,n=,r=abc") == malformed);
    CHECK(first({here, true}, "p=tls-server-end-point,a=x,n=,r=abc") ==
          "0A000 client uses authorization identity, but it is not supported");
    CHECK(first({here, true}, "p=tls-server-end-point") == malformed);
    CHECK(first({here, true}, "p=tls-server-end-point,") == malformed);
    CHECK(first({here, true}, "n,,n=,r=abc") == malformed);  // PLUS was chosen
    CHECK(first({here, true}, "y,,n=,r=abc") == malformed);
    CHECK(first({here, false}, "p=tls-server-end-point,,n=,r=abc") == malformed);  // PLUS wasn't
    CHECK(first({}, "p=tls-server-end-point,,n=,r=abc") == malformed);             // and couldn't be
    CHECK(first({}, "y,,n=,r=abc") == "ok");
    CHECK(first({here, false}, "n,,n=,r=abc") == "ok");
}

TEST_CASE("the bound channel is under the proof, cut or changed it doesn't pass") {
    const auto final_with = [](std::string_view binding) {
        ScramServer server(verifier_of("pencil"), false, "xyz", {here, true});
        REQUIRE(server.on_client_first("p=tls-server-end-point,,n=,r=abc").has_value());
        const auto answer =
            server.on_client_final("c=" + base64_encode(binding) + ",r=abcxyz,p=" + base64_encode(std::string(32, 'p')));
        return answer.error().sqlstate;
    };
    const std::string header = "p=tls-server-end-point,,";
    CHECK(final_with(header + here) == "28P01");  // the channel is right, the proof isn't
    CHECK(final_with(header + other) == "28000");
    CHECK(final_with(header) == "28000");
    CHECK(final_with(header + here + "x") == "28000");
    CHECK(final_with(header + here.substr(1)) == "28000");
    CHECK(final_with("n,,") == "28000");
    CHECK(final_with("p=tls-unique,," + here) == "28000");
}

TEST_CASE("towards servers: PLUS where it is offered and can be bound, else as libpq says it") {
    struct Row {
        std::vector<std::string> offered;
        std::string end_point;
        std::string mechanism;
        std::string flag;
    };
    const Row rows[] = {
        {{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}, here, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,"},
        {{"SCRAM-SHA-256-PLUS"}, here, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,"},
        {{"SCRAM-SHA-256"}, here, "SCRAM-SHA-256", "y,,n=,"},
        {{"SCRAM-SHA-256"}, "", "SCRAM-SHA-256", "n,,n=,"},
        {{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}, "", "SCRAM-SHA-256", "n,,n=,"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.mechanism);
        CAPTURE(row.flag);
        ServerLogin login({{"user", "app"}}, {Secret("pencil"), nullptr}, true, row.end_point);
        (void)login.start();
        const std::string offer = message::authentication_sasl(row.offered);
        const auto initial = login.on_message('R', std::string_view(offer).substr(5));
        REQUIRE(initial.has_value());
        const auto response = parse_sasl_initial_response(std::string_view(*initial).substr(5));
        REQUIRE(response.has_value());
        CHECK(response->mechanism == row.mechanism);
        CHECK(response->data->starts_with(row.flag));
    }
    ServerLogin only_plus({{"user", "app"}}, {Secret("pencil"), nullptr}, true);
    (void)only_plus.start();
    const std::string offer = message::authentication_sasl({"SCRAM-SHA-256-PLUS"});
    CHECK(only_plus.on_message('R', std::string_view(offer).substr(5)).error().sqlstate == "0A000");
}
