// A PROXY protocol header, also in pieces: never more is asked for than belongs to it, and the pieces say what the whole says.
#include "proxy/net/proxy_header.hpp"

#include <algorithm>

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    using namespace pgporter;
    constexpr std::size_t bytes_max = 2048;
    using Status = ProxyHeader::Status;
    std::size_t have = 0;
    ProxyHeader header;
    while (header.status == Status::need_more && have < input.size()) {
        PP_ASSERT(header.bytes > have && header.bytes <= bytes_max);
        have = std::min(input.size(), header.bytes);
        header = parse_proxy_header(std::string_view(input).substr(0, have), bytes_max);
    }
    if (header.status == Status::malformed) {
        PP_ASSERT(!header.problem.empty() && !header.client);
        return;
    }
    if (header.status != Status::complete) return;
    PP_ASSERT(header.bytes == have && !(header.is_local && header.client) && !(header.is_unix && header.client));
    for (std::size_t size = 0; size < have; ++size) {
        PP_ASSERT(parse_proxy_header(std::string_view(input).substr(0, size), bytes_max).status == Status::need_more);
    }
}
