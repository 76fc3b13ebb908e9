// A hostile server during a login. The input is a sequence of messages: type byte, length byte, body.
#include "proxy/wire/server_login.hpp"

#include "proxy/wire/messages.hpp"
#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    using namespace pgporter;
    using State = ServerLogin::State;
    if (input.empty()) return;
    const bool encrypted = input[0] & 1;
    const bool has_password = input[0] & 2;
    const std::string certificate = encrypted && input[0] & 4 ? std::string(32, 'c') : std::string();
    input.remove_prefix(1);
    ServerLogin login({{"user", "app"}}, {has_password ? std::optional(Secret("secret")) : std::nullopt, nullptr},
                      encrypted, certificate);
    (void)login.start();
    bool offered_scram = false;
    while (input.size() >= 2) {
        const char type = input[0];
        const std::string_view body = input.substr(2, static_cast<unsigned char>(input[1]));
        input.remove_prefix(2 + body.size());
        const State before = login.state();
        const auto answer = login.on_message(type, body);
        if (before == State::ready || before == State::failed) PP_ASSERT(!answer && login.state() == before);
        if (!answer) PP_ASSERT(login.state() == State::failed || before == State::ready);
        if (answer && !encrypted) PP_ASSERT(*answer != message::password_message("secret"));
        // A server that began SCRAM can't guess its signature, so it must not get any further.
        offered_scram |= answer && type == 'R' && answer->find("SCRAM-SHA-256") != std::string::npos;
        PP_ASSERT(!offered_scram || (login.state() != State::waiting_ready && login.state() != State::ready));
    }
}
