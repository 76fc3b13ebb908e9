#include "base/saslprep.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/utf8.hpp"

namespace pgporter {
namespace {

struct Range {
    char32_t first;
    char32_t last;
};

bool is_in(const auto& ranges, char32_t character) {
    return std::any_of(ranges.begin(), ranges.end(), [&](const Range& range) { return character >= range.first && character <= range.last; });
}

// RFC 3454 table C.1.2; U+200B is in B.1 as well, but spaces are looked at first.
constexpr auto spaces = std::to_array<Range>({{0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200B}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}});
// Table B.1.
constexpr auto nothing = std::to_array<Range>(
    {{0xAD, 0xAD}, {0x34F, 0x34F}, {0x1806, 0x1806}, {0x180B, 0x180D}, {0x200C, 0x200D}, {0x2060, 0x2060}, {0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF}});
// Tables C.2.1 and C.2.2, as far as they are looked at here.
constexpr auto prohibited = std::to_array<Range>({{0x0, 0x1F}, {0x7F, 0x9F}});
// Assigned in Unicode 3.2, written from left to right, never part of a composition, and their own NFKC.
constexpr auto themselves = std::to_array<Range>({
    {0x20, 0x7E}, {0xA1, 0xA7}, {0xA9, 0xA9}, {0xAB, 0xAC}, {0xAE, 0xAE}, {0xB0, 0xB1}, {0xB6, 0xB7}, {0xBB, 0xBB}, {0xBF, 0x131}, {0x134, 0x13E},
    {0x141, 0x148}, {0x14A, 0x17E},                                                                           // Latin
    {0x386, 0x386}, {0x388, 0x38A}, {0x38C, 0x38C}, {0x38E, 0x3A1}, {0x3A3, 0x3CE}, {0x400, 0x45F}, {0x490, 0x4C4},  // Greek, Cyrillic
    {0x2013, 0x2014}, {0x2018, 0x201A}, {0x201C, 0x201E}, {0x2020, 0x2022}, {0x2030, 0x2030}, {0x20AC, 0x20AC},     // punctuation
    {0x3001, 0x3002}, {0x3041, 0x3094}, {0x30A1, 0x30FC}, {0x4E00, 0x9FA5}, {0xAC00, 0xD7A3},                      // Chinese, Japanese, Korean
});
struct Replacement {
    char32_t character;
    std::u32string_view normal;
};
constexpr auto replacements = std::to_array<Replacement>({
    {0xA8, U" \u0308"}, {0xAA, U"a"}, {0xAF, U" \u0304"}, {0xB2, U"2"}, {0xB3, U"3"}, {0xB4, U" \u0301"}, {0xB5, U"\u03BC"}, {0xB8, U" \u0327"},
    {0xB9, U"1"}, {0xBA, U"o"}, {0xBC, U"1\u20444"}, {0xBD, U"1\u20442"}, {0xBE, U"3\u20444"}, {0x2026, U"..."}, {0x2122, U"TM"},
});

char32_t take_character(std::string_view& utf8) {
    const auto first = static_cast<unsigned char>(utf8.front());
    const std::size_t bytes = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    char32_t character = bytes == 1 ? first : first & (0x7FU >> bytes);
    for (std::size_t i = 1; i < bytes; ++i) character = character << 6 | (static_cast<unsigned char>(utf8[i]) & 0x3FU);
    utf8.remove_prefix(bytes);
    return character;
}

void put_character(std::string& out, char32_t character) {  // none above U+FFFF comes out
    if (character < 0x80) {
        out += static_cast<char>(character);
        return;
    }
    if (character < 0x800) {
        out += static_cast<char>(0xC0 | character >> 6);
    } else {
        out += static_cast<char>(0xE0 | character >> 12);
        out += static_cast<char>(0x80 | (character >> 6 & 0x3F));
    }
    out += static_cast<char>(0x80 | (character & 0x3F));
}

// False: its normal form isn't known.
bool put_normal(std::string& out, char32_t character) {
    if (is_in(prohibited, character) || is_in(themselves, character)) {
        put_character(out, character);
        return true;
    }
    if (character >= 0xFF01 && character <= 0xFF5E) {  // full-width ASCII
        put_character(out, character - 0xFF01 + '!');
        return true;
    }
    const auto found = std::find_if(replacements.begin(), replacements.end(), [&](const Replacement& entry) { return entry.character == character; });
    if (found == replacements.end()) return false;
    for (const char32_t part : found->normal) put_character(out, part);
    return true;
}

}  // namespace

std::optional<std::string> saslprep(std::string_view password) {
    const bool is_ascii = std::all_of(password.begin(), password.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    if (is_ascii || !is_utf8(password)) return std::string(password);
    std::string prepared;
    bool has_prohibited = false;
    for (std::string_view rest = password; !rest.empty();) {
        const char32_t character = take_character(rest);
        has_prohibited |= is_in(prohibited, character);
        if (is_in(spaces, character)) {
            prepared += ' ';
        } else if (!is_in(nothing, character) && !put_normal(prepared, character)) {
            return std::nullopt;
        }
    }
    if (prepared.empty() || has_prohibited) return std::string(password);
    return prepared;
}

}  // namespace pgporter
