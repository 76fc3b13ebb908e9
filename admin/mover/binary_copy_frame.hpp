// BinaryCopyFrame: what frames the rows of a binary COPY: a header before them, a trailer behind them (PostgreSQL: COPY, Binary Format). Of
// those strides that make one part the first gives the header, and the trailer is ours. Pure; one thread. It must not look into rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace pgporter {

class BinaryCopyFrame {
  public:
    explicit BinaryCopyFrame(bool is_binary) : is_binary_(is_binary) {}  // else nothing frames the rows

    void begin_stride() { header_left_ = is_binary_ ? header_bytes : 0; }
    void end_stride() { is_first_ = false; }
    // What of the source's message goes on to the target: the header comes in a message of its own, or before the first row or the trailer.
    [[nodiscard]] std::string_view rows_in(std::string_view message) {
        const auto header = std::min(header_left_, message.size());
        header_left_ -= header;
        // A row begins with the number of its columns, which is never negative.
        const bool ends_here = is_binary_ && message.substr(header) == trailer;
        if (ends_here) message.remove_suffix(trailer.size());
        if (!is_first_) message.remove_prefix(header);
        return message;
    }
    // What goes to the target behind the last stride.
    [[nodiscard]] std::string_view end() const { return is_binary_ ? trailer : std::string_view(); }

  private:
    static constexpr std::size_t header_bytes = 19;  // signature, flags, length of the extension: none
    static constexpr std::string_view trailer{"\xff\xff", 2};
    const bool is_binary_;
    bool is_first_ = true;
    std::size_t header_left_ = 0;
};

}  // namespace pgporter
