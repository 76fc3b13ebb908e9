#include "proxy/wire/server_login.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "proxy/wire/auth_crypto.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/startup.hpp"
#include "proxy/wire/writer.hpp"

using namespace pgporter;
using State = ServerLogin::State;
using Step = ServerLogin::Step;
using LoginEvent = ServerLogin::Event;

namespace {

const std::vector<std::pair<std::string, std::string>> startup = {{"user", "app"}, {"database", "shop"}};

ServerCredential with_password(std::string password) {
    return {Secret(std::move(password)), nullptr};
}

ScramVerifier verifier_of(std::string_view password, int iterations = 8) {
    return parse_scram_verifier(make_scram_verifier(password, "salt", iterations)).value();
}

// One whole message to a login, as the reader would hand it over.
Result<std::string> give(ServerLogin& login, const std::string& message) {
    // A copy of exactly the body's size: a sanitizer sees any look behind its end.
    const std::vector<char> body(message.begin() + 5, message.end());
    return login.on_message(message[0], {body.data(), body.size()});
}

std::string request(std::uint32_t code, std::string_view data = {}) {
    std::string out;
    const std::size_t mark = begin_message(out, 'R');
    put_u32(out, code);
    out.append(data);
    end_message(out, mark);
    return out;
}

void finish(ServerLogin& login) {
    CHECK(login.state() == State::waiting_ready);
    CHECK(give(login, message::parameter_status("server_version", "15.1")).value().empty());
    CHECK(give(login, message::backend_key_data(77, "abcd")).value().empty());
    CHECK(give(login, message::ready_for_query('I')).value().empty());
    CHECK(login.state() == State::ready);
}

// Runs SCRAM until the server's last word, which is returned instead of given to the login.
std::string until_final(ServerLogin& login, ScramServer& server) {
    (void)login.start();
    const std::string initial =
        give(login, message::authentication_sasl({"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"})).value();
    const auto response = parse_sasl_initial_response(std::string_view(initial).substr(5));
    REQUIRE(response.has_value());
    CHECK(response->mechanism == "SCRAM-SHA-256");
    const auto server_first = server.on_client_first(response->data.value());
    const auto client_final = give(login, message::authentication_sasl_continue(server_first.value()));
    const auto server_final = server.on_client_final(std::string_view(client_final.value()).substr(5));
    return server_final ? message::authentication_sasl_final(*server_final) : build_error("FATAL", "28P01", "no");
}

void check_violation(ServerLogin& login, const std::string& message) {
    const auto answer = give(login, message);
    REQUIRE_FALSE(answer.has_value());
    CHECK(answer.error().sqlstate == "08P01");
    CHECK(login.state() == State::failed);
    CHECK_FALSE(login.server_error().has_value());
    CHECK_FALSE(give(login, message::ready_for_query('I')).has_value());  // it stays so
}

}  // namespace

TEST_CASE("the table of transitions, all pairs") {
    const std::vector<Step> steps = {Step::start,           Step::waiting_request, Step::sasl_first_sent,
                                     Step::sasl_final_sent, Step::sasl_proven,     Step::password_sent,
                                     Step::waiting_ready,   Step::ready,           Step::failed};
    const std::vector<LoginEvent> events = {
        LoginEvent::started,        LoginEvent::sasl_offered, LoginEvent::sasl_continued, LoginEvent::sasl_proven,
        LoginEvent::password_asked, LoginEvent::accepted,     LoginEvent::ready,          LoginEvent::failed};
    const auto expected = [](Step from, LoginEvent event) -> std::optional<Step> {
        if (event == LoginEvent::failed && from != Step::ready) return Step::failed;
        if (from == Step::start && event == LoginEvent::started) return Step::waiting_request;
        if (from == Step::waiting_request && event == LoginEvent::sasl_offered) return Step::sasl_first_sent;
        if (from == Step::waiting_request && event == LoginEvent::password_asked) return Step::password_sent;
        if (from == Step::waiting_request && event == LoginEvent::accepted) return Step::waiting_ready;
        if (from == Step::sasl_first_sent && event == LoginEvent::sasl_continued) return Step::sasl_final_sent;
        if (from == Step::sasl_final_sent && event == LoginEvent::sasl_proven) return Step::sasl_proven;
        if (from == Step::sasl_proven && event == LoginEvent::accepted) return Step::waiting_ready;
        if (from == Step::password_sent && event == LoginEvent::accepted) return Step::waiting_ready;
        if (from == Step::waiting_ready && event == LoginEvent::ready) return Step::ready;
        return std::nullopt;
    };
    for (const Step from : steps) {
        for (const LoginEvent event : events) CHECK(ServerLogin::transition(from, event) == expected(from, event));
    }
    CHECK(ServerLogin::state_of(Step::start) == State::start);
    CHECK(ServerLogin::state_of(Step::sasl_proven) == State::authenticating);
    CHECK(ServerLogin::state_of(Step::password_sent) == State::authenticating);
}

TEST_CASE("trust") {
    ServerLogin login(startup, {}, false);
    CHECK(login.state() == State::start);
    CHECK(login.start() == build_startup_message(startup));
    CHECK(login.state() == State::authenticating);
    CHECK(give(login, message::authentication_ok()).value().empty());
    finish(login);
    CHECK(login.pid() == 77);
    CHECK(login.cancel_key() == "abcd");
    CHECK(login.parameters() == std::vector<std::pair<std::string, std::string>>{{"server_version", "15.1"}});
    CHECK(login.scram_keys() == nullptr);
    CHECK_FALSE(give(login, message::ready_for_query('I')).has_value());
    CHECK(login.state() == State::ready);
}

TEST_CASE("SCRAM with a password, then with the keys it taught") {
    ServerLogin login(startup, with_password("pencil"), false);
    ScramServer server(verifier_of("pencil"), false, "nonce");
    const std::string server_final = until_final(login, server);
    CHECK(give(login, server_final).value().empty());
    CHECK(login.scram_keys() == nullptr);  // not before the server accepts
    CHECK(give(login, message::authentication_ok()).value().empty());
    finish(login);
    REQUIRE(login.scram_keys() != nullptr);

    ServerLogin again(startup, {std::nullopt, login.scram_keys()}, false);
    ScramServer same(verifier_of("pencil"), false, "nonce");
    CHECK(give(again, until_final(again, same)).value().empty());
    CHECK(give(again, message::authentication_ok()).value().empty());
    finish(again);
}

TEST_CASE("notices are heard at every step and change nothing") {
    const std::string notice = build_notice("NOTICE", "00000", "hello");
    ServerLogin login(startup, with_password("pencil"), false);
    ScramServer server(verifier_of("pencil"), false, "nonce");
    (void)login.start();
    CHECK(give(login, notice).value().empty());
    const std::string initial = give(login, message::authentication_sasl({"SCRAM-SHA-256"})).value();
    CHECK(give(login, notice).value().empty());
    const auto response = parse_sasl_initial_response(std::string_view(initial).substr(5));
    const auto client_final =
        give(login, message::authentication_sasl_continue(server.on_client_first(*response->data).value()));
    CHECK(give(login, notice).value().empty());
    CHECK(give(login, message::authentication_sasl_final(server.on_client_final(client_final->substr(5)).value()))
              .value()
              .empty());
    CHECK(give(login, notice).value().empty());
    CHECK(give(login, message::authentication_ok()).value().empty());
    CHECK(give(login, notice).value().empty());
    finish(login);
}

TEST_CASE("a server that doesn't prove itself isn't believed") {
    SUBCASE("accepted right after the offer") {
        ServerLogin login(startup, with_password("pencil"), false);
        (void)login.start();
        (void)give(login, message::authentication_sasl({"SCRAM-SHA-256"}));
        check_violation(login, message::authentication_ok());
    }
    SUBCASE("accepted without its signature") {
        ServerLogin login(startup, with_password("pencil"), false);
        ScramServer server(verifier_of("pencil"), false, "nonce");
        (void)until_final(login, server);
        check_violation(login, message::authentication_ok());
        CHECK(login.scram_keys() == nullptr);
    }
    SUBCASE("a wrong signature") {
        ServerLogin login(startup, with_password("pencil"), false);
        ScramServer server(verifier_of("pencil"), false, "nonce");
        (void)until_final(login, server);
        const auto answer = give(login, message::authentication_sasl_final("v=" + base64_encode(std::string(32, 'x'))));
        CHECK(answer.error().kind == ErrorKind::unauthenticated);
        CHECK(login.state() == State::failed);
        CHECK_FALSE(give(login, message::authentication_ok()).has_value());
    }
    SUBCASE("ready without having accepted") {
        ServerLogin login(startup, {}, false);
        (void)login.start();
        check_violation(login, message::ready_for_query('I'));
    }
    SUBCASE("another method after SCRAM began") {
        ServerLogin login(startup, with_password("pencil"), true);
        (void)login.start();
        (void)give(login, message::authentication_sasl({"SCRAM-SHA-256"}));
        check_violation(login, request(3));
    }
    SUBCASE("SCRAM twice") {
        ServerLogin login(startup, with_password("pencil"), true);
        (void)login.start();
        (void)give(login, message::authentication_sasl({"SCRAM-SHA-256"}));
        check_violation(login, message::authentication_sasl({"SCRAM-SHA-256"}));
    }
    SUBCASE("SCRAM's later steps first") {
        for (const std::string& message :
             {message::authentication_sasl_continue("r=x,s=YQ==,i=1"), message::authentication_sasl_final("v=x")}) {
            ServerLogin login(startup, with_password("pencil"), true);
            (void)login.start();
            check_violation(login, message);
        }
    }
    SUBCASE("accepted twice") {
        ServerLogin login(startup, {}, true);
        (void)login.start();
        (void)give(login, message::authentication_ok());
        check_violation(login, message::authentication_ok());
    }
}

TEST_CASE("SCRAM that can't be") {
    const auto error_with = [](ServerCredential credential, const std::vector<std::string>& mechanisms) {
        ServerLogin login(startup, std::move(credential), true);
        (void)login.start();
        const auto answer = give(login, message::authentication_sasl(mechanisms));
        CHECK(login.state() == State::failed);
        return answer.error();
    };
    CHECK(error_with({}, {"SCRAM-SHA-256"}).sqlstate == "28000");
    CHECK(error_with(with_password("x"), {"SCRAM-SHA-256-PLUS", "OAUTHBEARER"}).sqlstate == "0A000");
    CHECK(error_with(with_password("x"), {}).sqlstate == "0A000");

    // Keys of another verifier, and no password to fall back to.
    ScramKeys keys;
    keys.salt = "salt";
    keys.iterations = 9;
    ServerLogin login(startup, {std::nullopt, std::make_shared<const ScramKeys>(keys)}, true);
    ScramServer server(verifier_of("pencil"), false, "nonce");
    (void)login.start();
    const std::string initial = give(login, message::authentication_sasl({"SCRAM-SHA-256"})).value();
    const auto response = parse_sasl_initial_response(std::string_view(initial).substr(5));
    const auto answer =
        give(login, message::authentication_sasl_continue(server.on_client_first(*response->data).value()));
    CHECK(answer.error().message == "the server's password verifier differs from the one the client proved to know");
    CHECK(login.state() == State::failed);
}

TEST_CASE("a password in clear text goes over encrypted or local connections only") {
    ServerLogin encrypted(startup, with_password("secret"), true);
    (void)encrypted.start();
    CHECK(give(encrypted, request(3)).value() == message::password_message("secret"));
    CHECK(give(encrypted, message::authentication_ok()).value().empty());
    finish(encrypted);

    ServerLogin open(startup, with_password("secret"), false);
    (void)open.start();
    const auto refused = give(open, request(3));
    CHECK(refused.error().kind == ErrorKind::forbidden);
    CHECK(open.state() == State::failed);

    ServerLogin none(startup, {}, true);
    (void)none.start();
    CHECK(give(none, request(3)).error().sqlstate == "28000");
}

TEST_CASE("md5") {
    ServerLogin login(startup, with_password("secret"), false);
    (void)login.start();
    CHECK(give(login, request(5, "salt")).value() == message::password_message(md5_response("app", "secret", "salt")));
    CHECK(give(login, message::authentication_ok()).value().empty());
    finish(login);

    ServerLogin none(startup, {}, true);
    (void)none.start();
    CHECK(give(none, request(5, "salt")).error().sqlstate == "28000");
    for (const std::string_view salt : {"", "sal", "salty"}) {
        ServerLogin cut(startup, with_password("secret"), true);
        (void)cut.start();
        check_violation(cut, request(5, salt));
    }
}

TEST_CASE("methods that we don't know") {
    for (const std::uint32_t method : {1U, 2U, 4U, 6U, 7U, 8U, 9U, 13U, 0xffffffffU}) {
        ServerLogin login(startup, with_password("secret"), true);
        (void)login.start();
        const auto answer = give(login, request(method));
        CHECK(answer.error().sqlstate == "0A000");
        CHECK(answer.error().detail == "method number " + std::to_string(method));
        CHECK(login.state() == State::failed);
    }
}

TEST_CASE("the server's own error is told as it is") {
    const auto error_of = [](const std::string& message) {
        ServerLogin login(startup, {}, false);
        (void)login.start();
        const auto answer = give(login, message);
        CHECK(login.state() == State::failed);
        CHECK(login.server_error().has_value());
        return answer.error();
    };
    const Error full = error_of(build_error("FATAL", "3D000", "database \"shop\" does not exist", "d", "h"));
    CHECK(full.kind == ErrorKind::not_found);
    CHECK(full.message == "database \"shop\" does not exist");
    CHECK(full.sqlstate == "3D000");
    CHECK(full.detail == "d");
    CHECK(full.hint == "h");
    CHECK(error_of(build_error("FATAL", "28P01", "m")).kind == ErrorKind::unauthenticated);
    CHECK(error_of(build_error("FATAL", "53300", "m")).kind == ErrorKind::limit);
    CHECK(error_of(build_error("FATAL", "57P03", "m")).kind == ErrorKind::unavailable);
    CHECK(error_of(build_error("FATAL", "42704", "m")).kind == ErrorKind::invalid);

    // Other poolers leave fields out, and a broken server may send none.
    CHECK(error_of(std::string("E\0\0\0\x0cMno way\0\0", 14)).message == "no way");
    CHECK(error_of(std::string("E\0\0\0\x0cMno way\0\0", 14)).sqlstate == "");
    CHECK(error_of(std::string("E\0\0\0\4", 5)).message == "the server refused the login without a reason");
    CHECK(error_of(std::string("E\0\0\0\7Mcu", 8)).message == "the server refused the login without a reason");

    // At the last moment too.
    ServerLogin login(startup, {}, false);
    (void)login.start();
    (void)give(login, message::authentication_ok());
    CHECK(give(login, build_error("FATAL", "53300", "too many connections")).error().sqlstate == "53300");
    CHECK(login.state() == State::failed);
}

TEST_CASE("messages that don't belong into a login") {
    for (const std::string& message :
         {message::query("x"), message::data_row({}), message::command_complete("SET"), std::string("A\0\0\0\4", 5),
          message::parameter_status("a", "b"), message::backend_key_data(1, "abcd")}) {
        ServerLogin login(startup, {}, false);
        (void)login.start();
        check_violation(login, message);
    }
}

TEST_CASE("truncated messages, at every length") {
    const std::vector<std::string> early = {request(0), message::authentication_sasl({"SCRAM-SHA-256"})};
    for (const std::string& whole : early) {
        for (std::size_t size = 5; size < whole.size(); ++size) {
            // Cut within the request's code, or after it: a list of mechanisms must have its end.
            ServerLogin login(startup, with_password("x"), true);
            (void)login.start();
            check_violation(login, whole.substr(0, size));
        }
        ServerLogin login(startup, with_password("x"), true);
        (void)login.start();
        check_violation(login, whole + "x");
    }
    for (const std::string& whole :
         {message::parameter_status("a", "b"), message::backend_key_data(1, "abcd"), message::ready_for_query('I')}) {
        for (std::size_t size = 5; size < whole.size(); ++size) {
            ServerLogin login(startup, {}, true);
            (void)login.start();
            (void)give(login, message::authentication_ok());
            check_violation(login, whole.substr(0, size));
        }
    }
    for (const std::string& odd : {message::ready_for_query('T'), message::ready_for_query('E')}) {
        ServerLogin login(startup, {}, true);
        (void)login.start();
        (void)give(login, message::authentication_ok());
        check_violation(login, odd);
    }
}

TEST_CASE("a parameter that is reported twice has its last value") {
    ServerLogin login(startup, {}, true);
    (void)login.start();
    (void)give(login, message::authentication_ok());
    (void)give(login, message::parameter_status("a", "1"));
    (void)give(login, message::parameter_status("b", "2"));
    (void)give(login, message::parameter_status("a", "3"));
    CHECK(login.parameters() == std::vector<std::pair<std::string, std::string>>{{"a", "3"}, {"b", "2"}});
}

TEST_CASE("protocol negotiation is heard once, before the rest") {
    const std::string negotiation = build_negotiate_protocol_version(0, {"_pq_.x"});
    ServerLogin login(startup, {}, true);
    (void)login.start();
    CHECK(give(login, negotiation).value().empty());
    check_violation(login, negotiation);

    ServerLogin late(startup, {}, true);
    (void)late.start();
    (void)give(late, message::authentication_ok());
    check_violation(late, negotiation);

    for (std::size_t size = 5; size < negotiation.size(); ++size) {
        ServerLogin cut(startup, {}, true);
        (void)cut.start();
        check_violation(cut, negotiation.substr(0, size));
    }
}

TEST_CASE("a server that never stops talking is left") {
    ServerLogin login(startup, {}, true);
    (void)login.start();
    const std::string notice = build_notice("NOTICE", "00000", "hello");
    int heard = 0;
    while (heard < 100'000 && give(login, notice).has_value()) ++heard;
    CHECK(heard == 1000);
    CHECK(login.state() == State::failed);
}

TEST_CASE("a server's cancel key may be as long as PostgreSQL allows, and no longer") {
    for (const std::size_t size : {std::size_t(4), std::size_t(32), std::size_t(256)}) {
        ServerLogin login({{"user", "app"}}, {}, false);
        (void)login.start();
        CHECK(give(login, message::authentication_ok()).has_value());
        CHECK(give(login, message::backend_key_data(77, std::string(size, 'k'))).has_value());
        CHECK(login.cancel_key() == std::string(size, 'k'));
    }
    ServerLogin login({{"user", "app"}}, {}, false);
    (void)login.start();
    CHECK(give(login, message::authentication_ok()).has_value());
    const std::string longest = message::backend_key_data(77, std::string(256, 'k'));
    CHECK_FALSE(give(login, longest + "k").has_value());
}
