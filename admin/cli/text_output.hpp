// What people read: tables, amounts, problems. Pure functions to text; any thread.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "admin/cli/http_client.hpp"

namespace pgporter {

using TableRow = std::vector<std::string>;
// Columns as wide as their widest cell; the first row is the heading.
[[nodiscard]] std::string table_text(const std::vector<TableRow>& rows);
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);   // "1.5 MB"
[[nodiscard]] std::string number_text(std::uint64_t value);  // "1,234,567"
// Control characters become '?': a name from the server must not move the cursor.
[[nodiscard]] std::string printable(std::string_view text);

// A member of an object as text: "" when it isn't there or null.
[[nodiscard]] std::string member_text(const boost::json::value& object, std::string_view name);
[[nodiscard]] std::uint64_t member_number(const boost::json::value& object, std::string_view name);
[[nodiscard]] double member_real(const boost::json::value& object, std::string_view name);
[[nodiscard]] const boost::json::value* member(const boost::json::value& object, std::string_view name);

[[nodiscard]] std::string placement_text(const boost::json::value& placement);  // "cluster/database schema acme"
[[nodiscard]] std::string problem_text(const HttpReply& reply);                 // title, detail, hint, next steps
[[nodiscard]] std::string error_text(const Error& error);
[[nodiscard]] std::string next_steps_text(const boost::json::value& resource);  // "" when there are none
[[nodiscard]] std::string move_text(const boost::json::value& move);            // all of it, several lines
[[nodiscard]] std::string time_left_text(const boost::json::value& progress);   // "about 3 min"; "" when nobody can tell
[[nodiscard]] std::string throttled_text(const boost::json::value& progress);   // "by neighbours: 34 %"; "" when it isn't
[[nodiscard]] std::string preflight_text(const boost::json::value& report);
[[nodiscard]] std::string doctor_text(const boost::json::value& report);
[[nodiscard]] std::string apply_text(const boost::json::value& report);

}  // namespace pgporter
