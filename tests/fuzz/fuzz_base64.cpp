// Whatever decodes encodes to the same text again: there is one text for each value.
#include "proxy/wire/auth_crypto.hpp"
#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    const auto bytes = pgporter::base64_decode(input);
    PP_ASSERT(!bytes || pgporter::base64_encode(*bytes) == input);
    PP_ASSERT(pgporter::base64_decode(pgporter::base64_encode(input)) == input);
}
