// A hostile client: client-first and client-final, one a line. It doesn't know the password, so it must never get in.
#include "proxy/wire/scram.hpp"

#include <string>

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    using namespace pgporter;
    const std::string_view client_first = fuzz::take_until(input, '\n');
    const std::string certificate(32, 'c');
    for (const ScramChannel& channel : {ScramChannel{}, ScramChannel{certificate, false}, ScramChannel{certificate, true}}) {
        ScramServer server(mock_verifier("process secret", "user"), false, "def", channel);
        const auto server_first = server.on_client_first(client_first);
        PP_ASSERT(!server_first || server_first->starts_with("r="));
        PP_ASSERT(!server_first || client_first.starts_with("p=") == channel.is_plus);
        PP_ASSERT(!server.on_client_final(input));
    }
}
