// Server-sent events out of a stream of bytes, fed in any pieces. Pure; one thread. Bounded: an event larger than event_bytes_max is an error.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace pgporter {

struct SseEvent {
    std::string id;    // of this or the last event that had one
    std::string type;  // "message" when the event names none
    std::string data;
};

class SseParser {
  public:
    static constexpr std::size_t event_bytes_max = 1024 * 1024;
    using Handler = std::function<void(const SseEvent&)>;

    explicit SseParser(Handler handler) : handler_(std::move(handler)) {}
    // False: the bound was hit; the stream can't be used any more.
    [[nodiscard]] bool feed(std::string_view bytes);

  private:
    void take_line(std::string_view line);

    Handler handler_;
    std::string line_;
    SseEvent event_;
    bool has_data_ = false;
    bool after_return_ = false;
};

}  // namespace pgporter
