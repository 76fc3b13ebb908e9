#include "proxy/wire/scram.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "proxy/wire/auth_crypto.hpp"

using namespace pgporter;

namespace {

// The example of RFC 7677, section 3. It gives the user as "user"; we send an empty one, as libpq does.
constexpr std::string_view rfc_client_nonce = "rOprNGfwEbeRWgbNEkqO";
constexpr std::string_view rfc_server_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
constexpr std::string_view rfc_client_first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
constexpr std::string_view rfc_server_first =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
constexpr std::string_view rfc_client_final =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
constexpr std::string_view rfc_server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

const std::string salt = base64_decode("W22ZaJ0SNY7soEsUEjb6gQ==").value();

ScramVerifier verifier_of(std::string_view password, int iterations = 4096) {
    return parse_scram_verifier(make_scram_verifier(password, salt, iterations)).value();
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
    std::string out(text);
    const std::size_t at = out.find(from);
    REQUIRE(at != std::string::npos);
    return out.replace(at, from.size(), to);
}

// A whole login; says where it failed.
std::string login(ScramClient& client, ScramServer& server) {
    const auto server_first = server.on_client_first(client.client_first());
    if (!server_first) return "client-first: " + server_first.error().message;
    const auto client_final = client.on_server_first(*server_first);
    if (!client_final) return "server-first: " + client_final.error().message;
    const auto server_final = server.on_client_final(*client_final);
    if (!server_final) return "client-final: " + server_final.error().message;
    const auto checked = client.on_server_final(*server_final);
    if (!checked) return "server-final: " + checked.error().message;
    return "ok";
}

}  // namespace

TEST_CASE("the server's side of RFC 7677's example") {
    ScramServer server(verifier_of("pencil"), false, std::string(rfc_server_nonce));
    CHECK(server.on_client_first(rfc_client_first).value() == rfc_server_first);
    CHECK(server.on_client_final(rfc_client_final).value() == rfc_server_final);
    CHECK(server.learned().salt == salt);
    CHECK(server.learned().iterations == 4096);
    CHECK(sha256(as_text(server.learned().client_key)) == verifier_of("pencil").stored_key);
    CHECK(server.learned().server_key == verifier_of("pencil").server_key);
}

TEST_CASE("the client's side, as of RFC 7677's example but without the user name") {
    ScramClient client(Secret("pencil"), std::string(rfc_client_nonce));
    CHECK(client.client_first() == "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
    // Computed by hand from the RFC's formulas, with "n=" in the place of "n=user".
    const Sha256 salted = pbkdf2_sha256("pencil", salt, 4096);
    const Sha256 client_key = hmac_sha256(as_text(salted), "Client Key");
    const std::string without_proof = "c=biws,r=" + std::string(rfc_client_nonce) + std::string(rfc_server_nonce);
    const std::string auth_message = "n=,r=rOprNGfwEbeRWgbNEkqO," + std::string(rfc_server_first) + "," + without_proof;
    Sha256 proof = hmac_sha256(as_text(sha256(as_text(client_key))), auth_message);
    for (std::size_t i = 0; i < proof.size(); ++i) proof[i] = static_cast<unsigned char>(proof[i] ^ client_key[i]);
    CHECK(client.on_server_first(rfc_server_first).value() == without_proof + ",p=" + base64_encode(as_text(proof)));
    const Sha256 signature = hmac_sha256(as_text(hmac_sha256(as_text(salted), "Server Key")), auth_message);
    CHECK(client.on_server_final("v=" + base64_encode(as_text(signature))).has_value());
    CHECK(client.keys().client_key == client_key);
}

TEST_CASE("both sides against each other") {
    for (const std::string_view password : {"pencil", "", "p\xc3\xa4ssw\xc3\xb6rd", "a,b=c"}) {
        ScramClient client(Secret(std::string(password)), random_nonce());
        ScramServer server(verifier_of(password), false, random_nonce());
        CHECK(login(client, server) == "ok");
        CHECK(client.keys().client_key == server.learned().client_key);
        CHECK(client.keys().server_key == server.learned().server_key);
    }
}

TEST_CASE("wrong password") {
    ScramClient client(Secret("pencils"), random_nonce());
    ScramServer server(verifier_of("pencil"), false, random_nonce());
    CHECK(login(client, server) == "client-final: password authentication failed");
    // It is over: not even the right answer helps now.
    CHECK_FALSE(server.on_client_final(rfc_client_final).has_value());
    CHECK_FALSE(server.on_client_first(rfc_client_first).has_value());
}

TEST_CASE("a mock fails even with the right password, in the same words") {
    ScramClient client(Secret("pencil"), random_nonce());
    ScramServer server(verifier_of("pencil"), true, random_nonce());
    const auto server_first = server.on_client_first(client.client_first());
    const auto server_final = server.on_client_final(client.on_server_first(*server_first).value());
    REQUIRE_FALSE(server_final.has_value());
    CHECK(server_final.error().kind == ErrorKind::unauthenticated);
    CHECK(server_final.error().sqlstate == "28P01");
    CHECK(server_final.error().message == "password authentication failed");
}

TEST_CASE("mock verifiers are stable per user and look like real ones") {
    const ScramVerifier a = mock_verifier("secret", "alice");
    CHECK(a.salt == mock_verifier("secret", "alice").salt);
    CHECK(a.stored_key == mock_verifier("secret", "alice").stored_key);
    CHECK(a.salt != mock_verifier("secret", "bob").salt);
    CHECK(a.salt != mock_verifier("other", "alice").salt);
    CHECK(a.salt.size() == 16);
    CHECK(a.iterations == 4096);
    CHECK(a.stored_key != a.server_key);
}

TEST_CASE("keys that a client taught us log in where the verifier is the same, and only there") {
    ScramClient first(Secret("pencil"), random_nonce());
    ScramServer proxy(verifier_of("pencil"), false, random_nonce());
    REQUIRE(login(first, proxy) == "ok");

    ScramClient second(proxy.learned(), random_nonce());
    ScramServer server(verifier_of("pencil"), false, random_nonce());
    CHECK(login(second, server) == "ok");

    const std::string differs =
        "server-first: the server's password verifier differs from the one the client proved to know";
    ScramClient third(proxy.learned(), random_nonce());
    ScramServer more_iterations(verifier_of("pencil", 5000), false, random_nonce());
    CHECK(login(third, more_iterations) == differs);

    ScramClient fourth(proxy.learned(), random_nonce());
    ScramServer other_salt(parse_scram_verifier(make_scram_verifier("pencil", "another", 4096)).value(), false,
                           random_nonce());
    CHECK(login(fourth, other_salt) == differs);

    ScramClient fifth(Secret("pencil"), std::make_shared<const ScramKeys>(proxy.learned()), random_nonce());
    ScramServer other_again(parse_scram_verifier(make_scram_verifier("pencil", "another", 4096)).value(), false,
                            random_nonce());
    CHECK(login(fifth, other_again) == "ok");
}

TEST_CASE("fitting keys are taken before a password") {
    ScramClient teacher(Secret("pencil"), random_nonce());
    ScramServer proxy(verifier_of("pencil"), false, random_nonce());
    REQUIRE(login(teacher, proxy) == "ok");
    ScramClient client(Secret("wrong"), std::make_shared<const ScramKeys>(proxy.learned()), random_nonce());
    ScramServer server(verifier_of("pencil"), false, random_nonce());
    CHECK(login(client, server) == "ok");
}

TEST_CASE("client-first: what is taken and what is refused") {
    struct Row {
        std::string data;
        std::string sqlstate;  // "" when it is taken
    };
    const std::vector<Row> rows = {
        {"n,,n=,r=abc", ""},
        {"y,,n=,r=abc", ""},
        {"n,,n=user=3Dname,r=abc", ""},
        {"n,,n=,r=abc,x=extension", ""},
        {"p=tls-server-end-point,,n=,r=abc", "08P01"},
        {"n,a=admin,n=,r=abc", "0A000"},
        {"n,,m=x,n=,r=abc", "0A000"},
        {"n,x=y,n=,r=abc", "08P01"},
        {"x,,n=,r=abc", "08P01"},
        {"n,n=,r=abc", "08P01"},
        {"n,,r=abc", "08P01"},
        {"n,,n=", "08P01"},
        {"n,,n=,", "08P01"},
        {"n,,n=,r=", "08P01"},
        {"n,,n=,r=a b", "08P01"},
        {"n,,n=,r=a\x80", "08P01"},
        {std::string("n,,n=,r=a\0b", 11), "08P01"},
        {"n,,n=,r=" + std::string(scram_message_bytes_max, 'a'), "08P01"},
        {"n,", "08P01"},
        {"n", "08P01"},
        {"", "08P01"},
    };
    for (const Row& row : rows) {
        INFO(row.data.substr(0, 40));
        ScramServer server(verifier_of("pencil", 1), false, "server");
        const auto answer = server.on_client_first(row.data);
        REQUIRE(answer.has_value() == row.sqlstate.empty());
        if (!answer) {
            CHECK(answer.error().sqlstate == row.sqlstate);
            CHECK(answer.error().kind == ErrorKind::invalid);
            CHECK_FALSE(server.on_client_first("n,,n=,r=abc").has_value());
        }
    }
}

TEST_CASE("the gs2 header must come back as it was sent") {
    // A client that thinks the server has no channel binding says 'y', and must say so again under its proof.
    const auto final_with = [](std::string_view flag, std::string_view binding) {
        ScramServer server(verifier_of("pencil"), false, std::string(rfc_server_nonce));
        REQUIRE(server.on_client_first(std::string(flag) + std::string(rfc_client_first.substr(1))).has_value());
        return server.on_client_final(replaced(rfc_client_final, "c=biws", "c=" + std::string(binding)));
    };
    CHECK(final_with("n", "biws").has_value());
    CHECK(final_with("n", "eSws").error().kind == ErrorKind::invalid);
    CHECK(final_with("y", "biws").error().kind == ErrorKind::invalid);
    CHECK(final_with("y", "eSws").error().kind ==
          ErrorKind::unauthenticated);  // well-formed; the example's proof doesn't cover it
}

TEST_CASE("client-final: cut, changed or out of order") {
    const auto final_with = [](std::string_view data) {
        ScramServer server(verifier_of("pencil"), false, std::string(rfc_server_nonce));
        REQUIRE(server.on_client_first(rfc_client_first).has_value());
        return server.on_client_final(data);
    };
    for (std::size_t size = 0; size < rfc_client_final.size(); ++size) {
        const std::vector<char> copy(rfc_client_final.begin(),
                                     rfc_client_final.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK(final_with({copy.data(), copy.size()}).error().kind == ErrorKind::invalid);
    }
    CHECK(final_with(replaced(rfc_client_final, "lj)hNlF$k0", "lj)hNlF$k1")).error().kind == ErrorKind::invalid);
    CHECK(final_with(replaced(rfc_client_final, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "")).error().kind ==
          ErrorKind::invalid);
    CHECK(final_with(replaced(rfc_client_final, "p=dHz", "p=eHz")).error().kind == ErrorKind::unauthenticated);
    CHECK(final_with(replaced(rfc_client_final, "AndVQ=", "AndVR=")).error().kind ==
          ErrorKind::invalid);  // unused bits set
    CHECK(final_with(replaced(rfc_client_final, ",p=", ",x=y,p=")).error().kind == ErrorKind::unauthenticated);
    CHECK(final_with(std::string(rfc_client_final) + ",x=y").error().kind == ErrorKind::invalid);
    CHECK(final_with(std::string(rfc_client_final) + '\0').error().kind == ErrorKind::invalid);
    CHECK(final_with(replaced(rfc_client_final, "c=biws,", "")).error().kind == ErrorKind::invalid);

    ScramServer early(verifier_of("pencil"), false, "nonce");
    CHECK(early.on_client_final(rfc_client_final).error().kind == ErrorKind::invalid);
}

TEST_CASE("server-first: cut, changed or dangerous") {
    const auto first_with = [](std::string_view data) {
        ScramClient client(Secret("pencil"), std::string(rfc_client_nonce));
        (void)client.client_first();
        return client.on_server_first(data).has_value();
    };
    CHECK(first_with("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=1"));
    CHECK(first_with("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=1,x=extension"));
    const std::string_view whole = "r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=";
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        const std::vector<char> copy(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK_FALSE(first_with({copy.data(), copy.size()}));
    }
    for (const std::string_view data :
         {"r=rOprNGfwEbeRWgbNEkqO,s=YQ==,i=1", "r=other,s=YQ==,i=1", "r=rOprNGfwEbeRWgbNEkqOx,s=,i=1",
          "r=rOprNGfwEbeRWgbNEkqOx,s=YQ=,i=1", "r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=0",
          "r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=-1", "r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=1000001",
          "r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=99999999999999999999", "r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=1x",
          "m=must,r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=1", "s=YQ==,r=rOprNGfwEbeRWgbNEkqOx,i=1"}) {
        INFO(data);
        CHECK_FALSE(first_with(data));
    }
    CHECK_FALSE(
        first_with("r=rOprNGfwEbeRWgbNEkqOx,s=" + base64_encode(std::string(scram_salt_bytes_max + 1, 's')) + ",i=1"));
    CHECK_FALSE(first_with(std::string("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=1\0", 35)));
}

TEST_CASE("server-final: a server that doesn't know the verifier is found out") {
    const auto final_with = [](const std::function<std::string(std::string)>& tamper) {
        ScramClient client(Secret("pencil"), "abc");
        ScramServer server(verifier_of("pencil", 2), false, "def");
        const auto server_first = server.on_client_first(client.client_first());
        const auto server_final = server.on_client_final(client.on_server_first(*server_first).value());
        return client.on_server_final(tamper(server_final.value()));
    };
    CHECK(final_with([](std::string s) { return s; }).has_value());
    CHECK(final_with([](std::string s) { return s + ",x=y"; }).has_value());
    const auto wrong = final_with([](std::string s) { return std::string(s[2] == 'A' ? "v=B" : "v=A") + s.substr(3); });
    CHECK(wrong.error().kind == ErrorKind::unauthenticated);
    CHECK(wrong.error().message == "the server doesn't know the password that it asked for");
    CHECK(final_with([](std::string) { return "e=invalid-proof"; }).error().kind == ErrorKind::unauthenticated);
    CHECK(final_with([](std::string) { return ""; }).error().kind == ErrorKind::invalid);
    CHECK(final_with([](std::string) { return "v="; }).error().kind == ErrorKind::invalid);
    CHECK(final_with([](std::string s) { return s.substr(0, s.size() - 4); }).error().kind == ErrorKind::invalid);
    CHECK(final_with([](std::string s) { return s + '\0'; }).error().kind == ErrorKind::invalid);
    // A forged acceptance from a server that knows stored keys but not the server key.
    CHECK(final_with([](std::string) { return "v=" + base64_encode(std::string(32, '\0')); }).error().kind ==
          ErrorKind::unauthenticated);

    ScramClient early(Secret("pencil"), "abc");
    (void)early.client_first();
    CHECK(early.on_server_final(rfc_server_final).error().kind == ErrorKind::invalid);
}

TEST_CASE("verifiers, as PostgreSQL writes them") {
    const std::string text = make_scram_verifier("pencil", salt, 4096);
    CHECK(text ==
          "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
          "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
    const ScramVerifier verifier = parse_scram_verifier(text).value();
    CHECK(verifier.iterations == 4096);
    CHECK(verifier.salt == salt);
}

TEST_CASE("verifiers that aren't") {
    const std::string good = make_scram_verifier("pencil", salt, 4096);
    for (std::size_t size = 0; size < good.size(); ++size)
        CHECK_FALSE(parse_scram_verifier(good.substr(0, size)).has_value());
    for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{{"$4096", "$0"},
                                                                                   {"$4096", "$-1"},
                                                                                   {"$4096", "$1000001"},
                                                                                   {"$4096", "$ 4096"},
                                                                                   {"$4096", "$"},
                                                                                   {"W22Z", "W2 Z"},
                                                                                   {"W22ZaJ0SNY7soEsUEjb6gQ==", ""},
                                                                                   {"SHA-256", "SHA-512"},
                                                                                   {"$WG5d", "$WG5"},
                                                                                   {"$WG5d", ":WG5d"}}) {
        INFO(to);
        CHECK_FALSE(parse_scram_verifier(replaced(good, from, to)).has_value());
    }
    CHECK_FALSE(parse_scram_verifier(good + "x").has_value());
    CHECK_FALSE(parse_scram_verifier("md55f4dcc3b5aa765d61d8327deb882cf99").has_value());
    CHECK_FALSE(parse_scram_verifier("").has_value());
}

TEST_CASE("nonces are printable and differ") {
    std::set<std::string> seen;
    for (int i = 0; i < 50; ++i) seen.insert(random_nonce());
    CHECK(seen.size() == 50);
    for (const std::string& nonce : seen) {
        CHECK(nonce.size() == 24);
        CHECK(nonce.find(',') == std::string::npos);
    }
}
