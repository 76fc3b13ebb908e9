#include "admin/cli/sse_parser.hpp"

#include <utility>

namespace pgporter {

bool SseParser::feed(std::string_view bytes) {
    for (const char c : bytes) {
        const bool second_of_pair = after_return_ && c == '\n';
        after_return_ = c == '\r';
        if (second_of_pair) continue;
        if (c != '\n' && c != '\r') {
            line_.push_back(c);
            if (line_.size() + event_.data.size() > event_bytes_max) return false;
            continue;
        }
        take_line(std::exchange(line_, {}));
    }
    return true;
}

void SseParser::take_line(std::string_view line) {
    if (line.empty()) {
        if (has_data_) {
            if (event_.type.empty()) event_.type = "message";
            handler_(event_);
        }
        event_.type.clear();
        event_.data.clear();
        has_data_ = false;
        return;
    }
    const auto colon = line.find(':');
    const auto name = line.substr(0, colon);
    auto value = colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 1);
    if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (name == "id") event_.id = std::string(value);
    if (name == "event") event_.type = std::string(value);
    if (name == "data") {
        if (has_data_) event_.data.push_back('\n');
        event_.data += value;
        has_data_ = true;
    }
}

}  // namespace pgporter
