#include "proxy/wire/frame_reader.hpp"

#include <algorithm>
#include <cstddef>

#include "base/assert.hpp"

namespace pgporter {
namespace {

constexpr std::uint32_t length_bytes = 4;

std::uint32_t read_length(const char* header) {
    std::uint32_t value = 0;
    for (int i = 1; i <= 4; ++i) value = value << 8 | static_cast<unsigned char>(header[i]);
    return value;
}

}  // namespace

FrameReader::FrameReader(std::uint32_t message_bytes_max) : message_bytes_max_(message_bytes_max) {
    PP_ASSERT(message_bytes_max >= length_bytes);
}

FrameReader::Event FrameReader::accept_header(const char* header) {
    const std::uint32_t length = read_length(header);
    if (length < length_bytes || length > message_bytes_max_) {
        phase_ = Phase::broken;
        return Event::bad_length;
    }
    type_ = header[0];
    body_length_ = length - length_bytes;
    body_left_ = body_length_;
    header_have_ = 0;
    phase_ = body_left_ == 0 ? Phase::header : Phase::body;
    return Event::header;
}

FrameReader::Event FrameReader::next(std::string_view& input, std::string_view& piece) {
    if (phase_ == Phase::broken) return Event::bad_length;
    if (input.empty()) return Event::need_more;

    if (phase_ == Phase::body) {
        piece = input.substr(0, body_left_);
        input.remove_prefix(piece.size());
        body_left_ -= static_cast<std::uint32_t>(piece.size());
        if (body_left_ == 0) phase_ = Phase::header;
        return Event::body;
    }

    // Nearly every header is whole in the input: read it where it is.
    if (header_have_ == 0 && input.size() >= header_.size()) {
        const char* header = input.data();
        input.remove_prefix(header_.size());
        return accept_header(header);
    }
    const std::size_t count = std::min(header_.size() - header_have_, input.size());
    std::copy_n(input.data(), count, header_.data() + header_have_);
    input.remove_prefix(count);
    header_have_ = static_cast<std::uint8_t>(header_have_ + count);
    return header_have_ < header_.size() ? Event::need_more : accept_header(header_.data());
}

std::array<char, 5> frame_header(char type, std::uint32_t body_length) {
    const std::uint32_t length = body_length + length_bytes;
    PP_ASSERT(length > body_length || body_length == 0);  // no wrap-around
    return {type, static_cast<char>(length >> 24), static_cast<char>(length >> 16), static_cast<char>(length >> 8),
            static_cast<char>(length)};
}

}  // namespace pgporter
