// One structured line per event: an event name and key=value fields. Any thread; the sink (spdlog, wired in proxy/app) is set once
// before threads start. Nothing per query at info. Secrets have a type (base/secret.hpp) that can't be passed here.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace pgporter::log {

enum class Level { debug, info, warning, error };
using Field = std::pair<std::string_view, std::string>;
using Sink = std::function<void(Level, const std::string& line)>;

void set_sink(Sink sink);       // null: lines go nowhere (unit tests)
void set_level(Level minimum);  // default: info
void write(Level level, std::string_view event, std::initializer_list<Field> fields = {});

inline void debug(std::string_view event, std::initializer_list<Field> fields = {}) { write(Level::debug, event, fields); }
inline void info(std::string_view event, std::initializer_list<Field> fields = {}) { write(Level::info, event, fields); }
inline void warning(std::string_view event, std::initializer_list<Field> fields = {}) { write(Level::warning, event, fields); }
inline void error(std::string_view event, std::initializer_list<Field> fields = {}) { write(Level::error, event, fields); }

}  // namespace pgporter::log
