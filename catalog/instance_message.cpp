#include "catalog/instance_message.hpp"

#include <array>
#include <charconv>
#include <vector>

namespace pgporter {
namespace {

using Kind = InstanceMessage::Kind;

constexpr std::array<std::pair<Kind, std::string_view>, 5> kinds{{{Kind::hold, "hold"},
                                                                  {Kind::held, "held"},
                                                                  {Kind::drained, "drained"},
                                                                  {Kind::release, "release"},
                                                                  {Kind::warm, "warm"}}};
constexpr std::size_t field_count = 14;
constexpr std::string_view digits = "0123456789abcdef";

// Names may have blanks in them; a blank is what separates our fields.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte > ' ' && byte != '%') {
            out += c;
            continue;
        }
        out += '%';
        out += digits[byte >> 4U];
        out += digits[byte & 15U];
    }
    return out;
}

std::optional<std::string> unescaped(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        unsigned byte = 0;
        if (i + 2 >= text.size()) return std::nullopt;
        const auto* begin = text.data() + i + 1;
        if (std::from_chars(begin, begin + 2, byte, 16).ptr != begin + 2) return std::nullopt;
        out += static_cast<char>(byte);
        i += 2;
    }
    return out;
}

template <class Number>
bool read_number(std::string_view text, Number& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size();
}

std::vector<std::string_view> fields_of(std::string_view line) {
    std::vector<std::string_view> fields;
    for (std::size_t at = 0;;) {
        const auto end = line.find(' ', at);
        fields.push_back(line.substr(at, end - at));
        if (end == std::string_view::npos) return fields;
        at = end + 1;
    }
}

}  // namespace

std::string to_line(const InstanceMessage& message) {
    std::string line;
    for (const auto& [kind, text] : kinds) {
        if (kind == message.kind) line = text;
    }
    for (const std::uint64_t number : {std::uint64_t{message.sender}, std::uint64_t{message.to}, message.hold, message.ms,
                                       std::uint64_t{message.transactions}, std::uint64_t{message.pinned},
                                       message.epoch.value, message.version.value}) {
        line += ' ' + std::to_string(number);
    }
    for (const auto& text : {std::string(to_text(message.place.kind)), message.place.cluster, message.place.database,
                             message.place.schema, message.tenant}) {
        line += ' ' + escaped(text);
    }
    return line;
}

std::optional<InstanceMessage> message_from(std::string_view line) {
    const auto fields = fields_of(line);
    if (fields.size() != field_count) return std::nullopt;
    InstanceMessage message;
    bool known = false;
    for (const auto& [kind, text] : kinds) {
        if (text != fields[0]) continue;
        message.kind = kind;
        known = true;
    }
    const bool numbers = read_number(fields[1], message.sender) && read_number(fields[2], message.to) &&
                         read_number(fields[3], message.hold) && read_number(fields[4], message.ms) &&
                         read_number(fields[5], message.transactions) && read_number(fields[6], message.pinned) &&
                         read_number(fields[7], message.epoch.value) && read_number(fields[8], message.version.value);
    const auto place = placement_kind_from(fields[9]);
    auto cluster = unescaped(fields[10]);
    auto database = unescaped(fields[11]);
    auto schema = unescaped(fields[12]);
    auto tenant = unescaped(fields[13]);
    if (!known || !numbers || !place || !cluster || !database || !schema || !tenant) return std::nullopt;
    message.place = {*place, *std::move(cluster), *std::move(database), *std::move(schema)};
    message.tenant = *std::move(tenant);
    return message;
}

}  // namespace pgporter
