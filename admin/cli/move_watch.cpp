#include "admin/cli/move_watch.hpp"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>
#include <thread>

#include "admin/cli/text_output.hpp"

namespace pgporter {
namespace {

namespace json = boost::json;

constexpr int silent_attempts_max = 30;
constexpr std::chrono::seconds again_after{2};
constexpr std::chrono::seconds line_every{5};
constexpr std::size_t bar_cells = 20;

std::string bar_of(std::uint64_t done, std::uint64_t total) {
    const auto share = total == 0 ? 0.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const auto full = static_cast<std::size_t>(share * static_cast<double>(bar_cells));
    return "[" + std::string(full, '#') + std::string(bar_cells - full, '.') + "] " + std::to_string(static_cast<int>(share * 100)) + "%";
}

class Printer {
  public:
    explicit Printer(WatchStyle style) : style_(style) {}
    ~Printer() {
        if (open_line_) std::cout << std::endl;
    }
    Printer(const Printer&) = delete;
    Printer& operator=(const Printer&) = delete;

    void show(const json::value& move, const std::string& data) {
        if (style_ == WatchStyle::json_lines) std::cout << data << std::endl;
        if (style_ == WatchStyle::terminal) {
            std::cout << "\r\x1b[K" << progress_line(move) << std::flush;
            open_line_ = true;
        }
        if (style_ == WatchStyle::lines) show_line(move);
    }

  private:
    // Every change of state, and progress now and then: a log must stay readable.
    void show_line(const json::value& move) {
        const auto state = member_text(move, "state");
        const auto now = std::chrono::steady_clock::now();
        if (state == last_state_ && now - last_line_ < line_every) return;
        last_state_ = state;
        last_line_ = now;
        std::cout << progress_line(move) << std::endl;
    }

    const WatchStyle style_;
    std::string last_state_;
    std::chrono::steady_clock::time_point last_line_{};
    bool open_line_ = false;
};

}  // namespace

std::string progress_line(const json::value& move) {
    const auto state = member_text(move, "state");
    auto out = "move " + member_text(move, "id") + "  " + state;
    if (const auto place = member_number(move, "place_in_line"); place > 0) out += "  in line, place " + std::to_string(place);
    const auto* p = member(move, "progress");
    if (p == nullptr) return out;
    if (state == "copy") {
        out += "  " + bar_of(member_number(*p, "rows_copied"), member_number(*p, "rows_total_estimate")) + "  " +
               number_text(member_number(*p, "rows_copied")) + " rows  " + bytes_text(member_number(*p, "bytes_copied"));
        const auto rate = static_cast<std::uint64_t>(member_real(*p, "bytes_per_second"));
        if (rate > 0) out += "  " + bytes_text(rate) + "/s";
        if (const auto throttled = throttled_text(*p); !throttled.empty()) out += "  throttled " + throttled;
    }
    if (state == "catchup" || state == "verify") out += "  " + bytes_text(member_number(*p, "lag_bytes")) + " behind";
    if (state == "verify") out += "  " + number_text(member_number(*p, "rows_verified")) + " rows verified";
    if (const auto left = time_left_text(*p); !left.empty()) out += "  " + left + " left";
    if (const auto note = member_text(*p, "note"); !note.empty()) out += "  " + note;
    return out;
}

Result<json::value> watch_move(const HttpClient& client, const std::string& id, WatchStyle style,
                               const std::function<bool(const json::value&)>& until, HttpReply& refusal) {
    Printer printer(style);
    std::optional<json::value> reached;
    std::string last_id;
    Error last_error = fail(ErrorKind::unavailable, "the server ended the event stream", "move " + id);
    int silent_attempts = 0;
    while (silent_attempts < silent_attempts_max) {
        ++silent_attempts;
        const auto reply = client.watch("/v1/moves/" + id + "/events", last_id, [&](const SseEvent& event) {
            boost::system::error_code ec;
            auto move = json::parse(event.data, ec);
            if (ec || !move.is_object()) return true;
            silent_attempts = 0;
            last_id = event.id;
            printer.show(move, event.data);
            if (until(move)) reached = std::move(move);
            return !reached.has_value();
        });
        if (reached) return std::move(*reached);
        if (!reply) last_error = reply.error();
        // A server that starts again says 503 for a moment; everything else it says is final.
        if (reply && reply->status != 200 && reply->status != 503) {
            refusal = *reply;
            return fail(ErrorKind::internal, "the server refused");
        }
        std::this_thread::sleep_for(again_after);
    }
    return last_error;
}

}  // namespace pgporter
