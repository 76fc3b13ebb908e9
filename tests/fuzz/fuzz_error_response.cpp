// Any body is read without harm, and comes through a rewriting that replaces nothing as it was.
#include "proxy/wire/error_response.hpp"

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    const std::string_view from = pgporter::fuzz::take_until(input, '\n');
    (void)pgporter::parse_error(input);
    PP_ASSERT(std::string_view(pgporter::rewrite_error_text(input, "", "x")).substr(5) == input);
    PP_ASSERT(std::string_view(pgporter::rewrite_error_text(input, from, from)).substr(5) == input);
    (void)pgporter::rewrite_error_text(input, from, "replaced");
}
