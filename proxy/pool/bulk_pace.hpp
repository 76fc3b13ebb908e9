// BulkPace: when a long result is let gather in the socket for a moment, so that it is passed on in fewer and larger pieces. PostgreSQL
// sends 8 KiB at a time; reading and sending each of them costs more than what is in it. Pure; one for each server connection.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace pgporter {

class BulkPace {
  public:
    static constexpr std::chrono::microseconds pause{150};

    // After a read. True: what comes next should gather for `pause` before it is read, if this was all there was: who is late as it is mustn't wait.
    [[nodiscard]] bool should_pause(std::string_view bytes) {
        if (bytes.size() < small_bytes || ends_with_ready(bytes)) {
            in_a_row_ = 0;
            return false;
        }
        in_a_row_ = std::min(in_a_row_ + static_cast<std::uint32_t>(bytes.size()), long_bytes);
        return in_a_row_ == long_bytes && bytes.size() < large_bytes;
    }

  private:
    static constexpr std::size_t small_bytes = 4'096;        // a result that trickles
    static constexpr std::size_t large_bytes = 49'152;       // large enough as they come
    static constexpr std::uint32_t long_bytes = 256 * 1'024;

    // ReadyForQuery: nothing follows before the client has asked again.
    static bool ends_with_ready(std::string_view bytes) {
        return bytes.size() >= 6 && bytes.substr(bytes.size() - 6, 5) == std::string_view("Z\0\0\0\5", 5);
    }
    std::uint32_t in_a_row_ = 0;
};

}  // namespace pgporter
