// A verifier that is understood is within its bounds and can be used.
#include "proxy/wire/scram.hpp"

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    using namespace pgporter;
    const auto verifier = parse_scram_verifier(input);
    if (!verifier) return;
    PP_ASSERT(verifier->iterations >= 1 && verifier->iterations <= scram_iterations_max);
    PP_ASSERT(!verifier->salt.empty() && verifier->salt.size() <= scram_salt_bytes_max);
    ScramServer server(*verifier, false, "nonce");
    PP_ASSERT(server.on_client_first("n,,n=,r=abc").has_value());
}
