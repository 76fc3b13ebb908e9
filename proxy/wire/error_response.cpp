#include "proxy/wire/error_response.hpp"

#include <cstddef>

#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"

namespace pgporter {
namespace {

void put_field(std::string& out, char field, std::string_view text) {
    out.push_back(field);
    put_cstring(out, text);
}

std::string build(char type, std::string_view severity, std::string_view sqlstate, std::string_view message,
                  std::string_view detail, std::string_view hint) {
    std::string out;
    out.reserve(32 + severity.size() * 2 + message.size() + detail.size() + hint.size());
    const std::size_t mark = begin_message(out, type);
    put_field(out, 'S', severity);
    put_field(out, 'V', severity);
    put_field(out, 'C', sqlstate);
    put_field(out, 'M', message);
    if (!detail.empty()) put_field(out, 'D', detail);
    if (!hint.empty()) put_field(out, 'H', hint);
    out.push_back('\0');
    end_message(out, mark);
    return out;
}

void put_replaced(std::string& out, std::string_view text, std::string_view from, std::string_view to) {
    std::size_t begin = 0;
    for (std::size_t at; (at = text.find(from, begin)) != std::string_view::npos; begin = at + from.size()) {
        out.append(text.substr(begin, at - begin));
        out.append(to);
    }
    out.append(text.substr(begin));
}

}  // namespace

std::string build_error(std::string_view severity, std::string_view sqlstate, std::string_view message,
                        std::string_view detail, std::string_view hint) {
    return build('E', severity, sqlstate, message, detail, hint);
}

std::string build_notice(std::string_view severity, std::string_view sqlstate, std::string_view message,
                         std::string_view detail, std::string_view hint) {
    return build('N', severity, sqlstate, message, detail, hint);
}

ServerError parse_error(std::string_view body) {
    ServerError error;
    std::string_view localised_severity;
    Reader reader(body);
    for (auto field = reader.u8(); field && *field != 0; field = reader.u8()) {
        const auto text = reader.cstring();
        if (!text) break;
        switch (static_cast<char>(*field)) {
            case 'S':
                localised_severity = *text;
                break;
            case 'V':
                error.severity = *text;
                break;
            case 'C':
                error.sqlstate = *text;
                break;
            case 'M':
                error.message = *text;
                break;
            case 'D':
                error.detail = *text;
                break;
            case 'H':
                error.hint = *text;
                break;
            default:
                break;  // position, file, line and whatever later versions add
        }
    }
    if (error.severity.empty()) error.severity = localised_severity;
    return error;
}

std::string rewrite_error_text(std::string_view body, std::string_view from, std::string_view to) {
    std::string out;
    out.reserve(body.size() + to.size() + 5);
    const std::size_t mark = begin_message(out, 'E');
    Reader reader(body);
    for (;;) {
        const std::string_view before = reader.rest();
        const auto field = reader.u8();
        const auto text = field && *field != 0 ? reader.cstring() : std::nullopt;
        if (!text) {  // the terminator, or something that we don't understand: it stays as it is
            out.append(before);
            break;
        }
        out.push_back(static_cast<char>(*field));
        if (*field == 'M' && !from.empty()) {
            put_replaced(out, *text, from, to.substr(0, to.find('\0')));
        } else {
            out.append(*text);
        }
        out.push_back('\0');
    }
    end_message(out, mark);
    return out;
}

}  // namespace pgporter
