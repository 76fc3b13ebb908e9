// Reader: takes protocol values off the front of a message body. Bounded: it never reads past the end, and a value that
// isn't there whole is nullopt and leaves the reader where it was. Views into the caller's bytes; owns nothing; any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace pgporter {

class Reader {
  public:
    explicit Reader(std::string_view body) : rest_(body) {}

    [[nodiscard]] std::optional<std::uint8_t> u8() {
        if (rest_.empty()) return std::nullopt;
        return static_cast<std::uint8_t>(take_integer(1));
    }
    [[nodiscard]] std::optional<std::uint16_t> u16() {
        if (rest_.size() < 2) return std::nullopt;
        return static_cast<std::uint16_t>(take_integer(2));
    }
    [[nodiscard]] std::optional<std::uint32_t> u32() {
        if (rest_.size() < 4) return std::nullopt;
        return take_integer(4);
    }
    // The text before the next zero byte, which is consumed too. Without a zero byte there is no string.
    [[nodiscard]] std::optional<std::string_view> cstring() {
        const std::size_t end = rest_.find('\0');
        if (end == std::string_view::npos) return std::nullopt;
        const std::string_view text = rest_.substr(0, end);
        rest_.remove_prefix(end + 1);
        return text;
    }
    [[nodiscard]] std::optional<std::string_view> bytes(std::size_t count) {
        if (rest_.size() < count) return std::nullopt;
        const std::string_view piece = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return piece;
    }
    [[nodiscard]] bool empty() const { return rest_.empty(); }
    [[nodiscard]] std::string_view rest() const { return rest_; }

  private:
    std::uint32_t take_integer(std::size_t count) {
        std::uint32_t value = 0;
        for (std::size_t i = 0; i < count; ++i) value = value << 8 | static_cast<unsigned char>(rest_[i]);
        rest_.remove_prefix(count);
        return value;
    }

    std::string_view rest_;
};

}  // namespace pgporter
