// Follows one move's events and shows them: a line that rewrites itself on a terminal, plain lines elsewhere, JSON lines with --json.
// One thread; blocks until the move stands where the caller waits for, or nothing can be heard of it any more.
#pragma once

#include <boost/json.hpp>
#include <functional>
#include <string>

#include "admin/cli/http_client.hpp"

namespace pgporter {

enum class WatchStyle { terminal, lines, json_lines, silent };

// Pure: the text of one event for people, without a line end.
[[nodiscard]] std::string progress_line(const boost::json::value& move);

// Ends when `until` says so of a move; gives that move. A broken connection is taken up again for about a minute.
[[nodiscard]] Result<boost::json::value> watch_move(const HttpClient& client, const std::string& id, WatchStyle style,
                                                    const std::function<bool(const boost::json::value&)>& until, HttpReply& refusal);

}  // namespace pgporter
