// Every error answer of the API: RFC 9457, application/problem+json. The one place that knows which failure gives which status.
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "admin/api/api_message.hpp"
#include "base/result.hpp"

namespace pgporter {

struct Problem {
    unsigned status = 500;
    std::string code;    // stable; type is "urn:pgporter:problem:<code>"
    std::string title;   // the same for every occurrence of the code
    std::string detail;  // this occurrence
    std::string hint{};  // what to do
    std::string sqlstate{};
    std::vector<std::string> next_steps{};  // commands
};

[[nodiscard]] unsigned status_of(ErrorKind kind);
[[nodiscard]] std::string_view code_of(ErrorKind kind);
[[nodiscard]] Problem problem_from(const Error& error);
[[nodiscard]] ApiResponse problem_response(const Problem& problem, std::string_view instance);
[[nodiscard]] ApiResponse problem_response(const Error& error, std::string_view instance);

}  // namespace pgporter
