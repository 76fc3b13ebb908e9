// FrameReader: cuts a byte stream into typed messages (type byte, 4-byte length, body) without buffering any of it. One
// per direction of a connection, owned by whoever reads that connection, used on its thread only. It allocates nothing,
// copies no body byte and can stop and go on at every byte. It knows nothing about what a message means. Startup
// packets have no type byte and are not its business (startup.hpp).
//
// Usage: after each read, call next() until it says need_more.
//   header: type() and body_length() are known. Said once a message. A message without body is complete with it.
//   body: `piece` is a slice of the caller's input; body_complete() says whether it was the last one.
//   bad_length: the stream can't be understood any more; every later call says so again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pgporter {

class FrameReader {
  public:
    enum class Event { need_more, header, body, bad_length };

    // The length field counts itself, so `message_bytes_max` is the longest body plus four.
    explicit FrameReader(std::uint32_t message_bytes_max = 0x3fffffff + 4);

    // Consumes from the front of `input`. `piece` is set with body only and is never empty then.
    [[nodiscard]] Event next(std::string_view& input, std::string_view& piece);

    // The message whose header was last reported; undefined before the first.
    [[nodiscard]] char type() const { return type_; }
    [[nodiscard]] std::uint32_t body_length() const { return body_length_; }
    // No byte of the current message's body is missing.
    [[nodiscard]] bool body_complete() const { return phase_ == Phase::header && header_have_ == 0; }
    // Between two messages: the last one is complete and no byte of the next one was read.
    [[nodiscard]] bool at_boundary() const { return phase_ == Phase::header && header_have_ == 0; }

  private:
    enum class Phase : std::uint8_t { header, body, broken };

    Event accept_header(const char* header);

    std::uint32_t message_bytes_max_;
    std::uint32_t body_length_ = 0;
    std::uint32_t body_left_ = 0;
    std::array<char, 5> header_{};
    std::uint8_t header_have_ = 0;
    Phase phase_ = Phase::header;
    char type_ = 0;
};

// The length field that these bytes begin with, of which there are four at least. It counts itself.
[[nodiscard]] inline std::uint32_t length_field(std::string_view bytes) {
    const auto at = [bytes](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(bytes[i])}; };
    return at(0) << 24 | at(1) << 16 | at(2) << 8 | at(3);
}

// The message that these bytes begin with, its type and length in front. Empty: it isn't there whole, or its length field can't be one.
[[nodiscard]] inline std::string_view whole_message(std::string_view bytes) {
    if (bytes.size() < 5) return {};
    const std::uint32_t length = length_field(bytes.substr(1));
    return length < 4 || length > bytes.size() - 1 ? std::string_view() : bytes.substr(0, std::size_t{length} + 1);
}

// The messages of this type that these bytes begin with, one behind the other, as far as they are whole.
[[nodiscard]] inline std::string_view whole_messages(std::string_view bytes, char type) {
    std::size_t size = 0;
    while (size < bytes.size() && bytes[size] == type) {
        const std::size_t next = whole_message(bytes.substr(size)).size();
        if (next == 0) break;
        size += next;
    }
    return bytes.substr(0, size);
}

// The five bytes that start a message. `body_length` is without the length field's own four bytes.
[[nodiscard]] std::array<char, 5> frame_header(char type, std::uint32_t body_length);

}  // namespace pgporter
