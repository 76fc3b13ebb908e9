// Appends protocol values to a std::string, in network byte order. Free functions over the caller's buffer; any thread.
//
// Usage: auto mark = begin_message(out, 'Q'); put_cstring(out, sql); end_message(out, mark);
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/assert.hpp"

namespace pgporter {

inline void put_u8(std::string& out, std::uint8_t value) {
    out.push_back(static_cast<char>(value));
}

inline void put_u16(std::string& out, std::uint16_t value) {
    const char bytes[2] = {static_cast<char>(value >> 8), static_cast<char>(value)};
    out.append(bytes, sizeof bytes);
}

inline void put_u32(std::string& out, std::uint32_t value) {
    const char bytes[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                           static_cast<char>(value >> 8), static_cast<char>(value)};
    out.append(bytes, sizeof bytes);
}

// Text up to its first zero byte, and a zero byte: what follows a zero byte inside could pass for the next field.
inline void put_cstring(std::string& out, std::string_view text) {
    out.append(text.substr(0, text.find('\0')));
    out.push_back('\0');
}

// Starts a message whose length isn't known yet. The mark belongs to this message's end_message().
[[nodiscard]] inline std::size_t begin_message(std::string& out, char type) {
    out.push_back(type);
    out.append(4, '\0');
    return out.size() - 4;
}

inline void end_message(std::string& out, std::size_t mark) {
    PP_ASSERT(mark + 4 <= out.size());
    const std::size_t length = out.size() - mark;
    PP_ASSERT(length <= std::numeric_limits<std::int32_t>::max());
    for (std::size_t i = 0; i < 4; ++i) out[mark + i] = static_cast<char>(length >> (24 - 8 * i));
}

}  // namespace pgporter
