#include "base/log.hpp"

#include <atomic>

namespace pgporter::log {
namespace {

Sink& sink() {
    static Sink instance;
    return instance;
}
std::atomic<Level> minimum_level{Level::info};

// A value with a space, a quote or a control character is quoted, so that one event is always one parsable line.
void append_value(std::string& line, const std::string& value) {
    const bool plain = !value.empty() && value.find_first_of(" \"=\t\n\r") == std::string::npos;
    if (plain) {
        line += value;
        return;
    }
    line += '"';
    for (const char c : value) {
        if (c == '"' || c == '\\') line += '\\';
        line += (static_cast<unsigned char>(c) < 0x20) ? ' ' : c;
    }
    line += '"';
}

}  // namespace

void set_sink(Sink new_sink) {
    sink() = std::move(new_sink);
}

void set_level(Level minimum) {
    minimum_level = minimum;
}

void write(Level level, std::string_view event, std::initializer_list<Field> fields) {
    if (level < minimum_level.load(std::memory_order_relaxed) || !sink()) return;
    std::string line(event);
    for (const auto& [key, value] : fields) {
        line += ' ';
        line += key;
        line += '=';
        append_value(line, value);
    }
    sink()(level, line);
}

}  // namespace pgporter::log
