// Lsn: a position in a server's write-ahead log, and its text form "16/B374D848". A value; any thread.
#pragma once

#include <charconv>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pgporter {

struct Lsn {
    std::uint64_t value = 0;
    friend constexpr auto operator<=>(const Lsn&, const Lsn&) = default;
};

[[nodiscard]] inline std::string to_text(Lsn lsn) {
    const auto hex = [](std::uint64_t part) {
        char digits[16];
        const auto end = std::to_chars(digits, digits + sizeof digits, part, 16).ptr;
        return std::string(digits, end);
    };
    return hex(lsn.value >> 32) + "/" + hex(lsn.value & 0xFFFFFFFFU);
}

[[nodiscard]] inline std::optional<Lsn> lsn_from(std::string_view text) {
    const auto slash = text.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    const auto part = [](std::string_view digits) -> std::optional<std::uint64_t> {
        std::uint32_t number = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
        if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
        return number;
    };
    const auto high = part(text.substr(0, slash));
    const auto low = part(text.substr(slash + 1));
    if (!high || !low) return std::nullopt;
    return Lsn{(*high << 32) | *low};
}

}  // namespace pgporter
