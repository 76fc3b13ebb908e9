// A startup packet that is understood keeps its promises and builds one that is understood alike.
#include "proxy/wire/startup.hpp"

#include <algorithm>

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    using namespace pgporter;
    const auto packet = parse_startup_packet(input);
    if (!packet) {
        PP_ASSERT(packet.error().sqlstate.size() == 5);
        return;
    }
    if (const auto* cancel = std::get_if<CancelRequest>(&*packet)) {
        PP_ASSERT(std::string_view(build_cancel_request(cancel->pid, cancel->key)).substr(4) == input);
    }
    if (const auto* startup = std::get_if<StartupMessage>(&*packet)) {
        PP_ASSERT(startup->major == 3);
        const auto is_user = [](const auto& parameter) {
            return parameter.first == "user" && !parameter.second.empty();
        };
        PP_ASSERT(std::count_if(startup->parameters.begin(), startup->parameters.end(), is_user) == 1);
        const std::string built = build_startup_message(startup->parameters);
        const auto again = parse_startup_packet(std::string_view(built).substr(4));
        PP_ASSERT(again && std::get<StartupMessage>(*again).parameters == startup->parameters);
    }
}
