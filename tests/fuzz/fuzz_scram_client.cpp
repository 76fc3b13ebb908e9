// A hostile server: server-first and server-final, one a line. It doesn't know the keys, so it must never be believed.
#include "proxy/wire/scram.hpp"

#include <string>

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    using namespace pgporter;
    const std::string_view server_first = fuzz::take_until(input, '\n');
    // Keys rather than a password: a derivation with as many iterations as a server may ask for would be all that is
    // measured.
    ScramKeys keys;
    keys.client_key.fill(1);
    keys.server_key.fill(2);
    keys.salt = "salt";
    keys.iterations = 4096;
    ScramClient client(keys, "abc");
    PP_ASSERT(client.client_first() == "n,,n=,r=abc");
    const auto client_final = client.on_server_first(server_first);
    PP_ASSERT(!client_final || client_final->starts_with("c=biws,r=abc"));
    PP_ASSERT(!client.on_server_final(input));
}
