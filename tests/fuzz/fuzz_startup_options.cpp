// What the options parameter gives are settings with names.
#include "proxy/wire/startup.hpp"

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    const auto settings = pgporter::parse_options_parameter(input);
    if (!settings) {
        PP_ASSERT(settings.error().sqlstate == "42601" || settings.error().sqlstate == "22023");
        return;
    }
    for (const auto& setting : *settings) {
        PP_ASSERT(!setting.first.empty());
        PP_ASSERT(setting.first.find_first_of("-=") == std::string::npos);
    }
}
