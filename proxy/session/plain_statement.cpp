#include "proxy/session/plain_statement.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "router/sql_lexer.hpp"

namespace pgporter {
namespace {

enum Class : std::uint8_t { other, space, digit, letter, dollar, quote, double_quote, semicolon, minus, slash };

constexpr std::uint8_t class_bits = 0x0f;
constexpr std::uint8_t in_word_bit = 0x10;  // a letter, a digit or '$'


constexpr std::array<std::uint8_t, 256> make_classes() {
    std::array<std::uint8_t, 256> classes{};
    for (const char c : {' ', '\t', '\n', '\r', '\f', '\v'}) classes[static_cast<unsigned char>(c)] = space;
    for (int c = '0'; c <= '9'; ++c) classes[static_cast<std::size_t>(c)] = digit;
    for (int c = 'a'; c <= 'z'; ++c) classes[static_cast<std::size_t>(c)] = classes[static_cast<std::size_t>(c ^ 0x20)] = letter;
    for (std::size_t c = 0x80; c < 0x100; ++c) classes[c] = letter;
    classes['_'] = letter;
    classes['$'] = dollar;
    classes['\''] = quote;
    classes['"'] = double_quote;
    classes[';'] = semicolon;
    classes['-'] = minus;
    classes['/'] = slash;
    for (std::uint8_t& entry : classes) {
        if (entry == letter || entry == digit || entry == dollar) entry |= in_word_bit;
    }
    return classes;
}

constexpr std::array<std::uint8_t, 256> classes = make_classes();

// Begins like a word, in any case, that means something to a scan wherever it stands: CREATE, INTO, TEMP, TEMPORARY, set_config, pg_anything.
bool may_matter(const char* word, std::size_t size) {
    if (size < 3) return false;
    const auto small = [word](std::size_t i) { return static_cast<char>(word[i] | 0x20); };
    switch (small(0)) {
        case 'c':
            return size == 6 && small(1) == 'r' && small(2) == 'e';
        case 'i':
            return size == 4 && small(1) == 'n' && small(2) == 't' && small(3) == 'o';
        case 't':
            return (size == 4 || size == 9) && small(1) == 'e' && small(2) == 'm';
        case 's':
            return size == 10 && small(1) == 'e' && small(2) == 't';
        case 'p':
            return small(1) == 'g' && word[2] == '_';
        default:
            return false;
    }
}

class Pass {
  public:
    explicit Pass(std::string_view sql) : at_(sql.data()), end_(sql.data() + sql.size()) {}

    bool run() {
        skip(space);
        const std::string_view head = word();
        const bool inserts = equals_folded(head, "insert");
        const bool is_plain_head = inserts || equals_folded(head, "select") || equals_folded(head, "update") || equals_folded(head, "delete") ||
                                   equals_folded(head, "with");
        if (!is_plain_head || !ends_as_word()) return false;
        if (inserts) {
            skip(space);
            if (!equals_folded(word(), "into") || !ends_as_word()) return false;
        }
        while (at_ != end_) {
            if (!step()) return false;
        }
        return true;
    }

  private:
    [[nodiscard]] std::uint8_t class_here() const { return classes[static_cast<unsigned char>(*at_)] & class_bits; }
    void skip(Class what) {
        while (at_ != end_ && class_here() == what) ++at_;
    }
    // Empty: there is none here.
    std::string_view word() {
        const char* const begin = at_;
        if (at_ == end_ || class_here() != letter) return {};
        const char* letter_at = begin + 1;
        while (letter_at != end_ && (classes[static_cast<unsigned char>(*letter_at)] & in_word_bit) != 0) ++letter_at;
        at_ = letter_at;
        return {begin, static_cast<std::size_t>(at_ - begin)};
    }
    // Not the beginning of a string or name of another spelling: E'..', U&"..".
    [[nodiscard]] bool ends_as_word() const { return at_ == end_ || (*at_ != '\'' && *at_ != '"' && *at_ != '&'); }
    // PostgreSQL before 15 reads 1into as two words.
    [[nodiscard]] bool ends_as_number() const { return at_ == end_ || (class_here() != letter && class_here() != dollar); }
    [[nodiscard]] bool skip_until(char closing) {
        const void* const found = std::memchr(at_, closing, static_cast<std::size_t>(end_ - at_));
        if (found == nullptr) return false;
        at_ = static_cast<const char*>(found) + 1;
        return true;
    }

    // False: this is for the scan.
    bool step() {
        switch (class_here()) {
            case letter: {
                const std::string_view name = word();
                return !may_matter(name.data(), name.size()) && ends_as_word();
            }
            case digit:
                skip(digit);
                return ends_as_number();
            case dollar:  // a parameter, or it quotes
                if (++at_ == end_ || class_here() != digit) return false;
                skip(digit);
                return ends_as_number();
            case quote:
                ++at_;
                return skip_until('\'');  // a doubled one begins the next string
            case double_quote: {
                const char* const begin = ++at_;
                return skip_until('"') && !may_matter(begin, static_cast<std::size_t>(at_ - begin) - 1);
            }
            case semicolon:
                ++at_;
                skip(space);
                return at_ == end_;
            case minus:
                return ++at_ == end_ || *at_ != '-';
            case slash:
                return ++at_ == end_ || *at_ != '*';
            default:
                ++at_;
                return true;
        }
    }

    const char* at_;
    const char* end_;
};

}  // namespace

bool is_plain_statement(std::string_view sql, SqlDialect dialect) {
    return dialect.standard_strings && !dialect.is_masking() && Pass(sql).run();
}

}  // namespace pgporter
