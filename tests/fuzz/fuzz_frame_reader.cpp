// A stream gives the same messages whole and in pieces. The first byte says how long the pieces are.
#include "proxy/wire/frame_reader.hpp"

#include <algorithm>
#include <string>

#include "tests/fuzz/input.hpp"

namespace {

// All that the reader says about the stream, as one text.
std::string read(std::string_view stream, std::size_t piece_bytes) {
    using Event = pgporter::FrameReader::Event;
    pgporter::FrameReader reader(10000);
    std::string seen;
    while (!stream.empty()) {
        std::string_view input = stream.substr(0, piece_bytes);
        stream.remove_prefix(input.size());
        for (;;) {
            std::string_view piece;
            const Event event = reader.next(input, piece);
            if (event == Event::bad_length) return seen + "bad";
            if (event == Event::need_more) break;
            if (event == Event::header) {
                seen.append("[").append(1, reader.type()).append(std::to_string(reader.body_length())).append("]");
            } else {
                PP_ASSERT(!piece.empty());
                seen.append(piece);
            }
        }
        PP_ASSERT(input.empty());
    }
    return seen + (reader.at_boundary() ? "between" : "within");
}

}  // namespace

PP_FUZZ(input) {
    if (input.empty()) return;
    const std::size_t piece_bytes = static_cast<unsigned char>(input[0]) % 16 + 1U;
    input.remove_prefix(1);
    PP_ASSERT(read(input, piece_bytes) == read(input, std::max<std::size_t>(input.size(), 1)));
}
