// What an operator can do next with a move: shown with every move and dry run, so that nobody has to look it up. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "admin/mover/mover.hpp"
#include "catalog/move.hpp"

namespace pgporter {

struct NextStep {
    std::string why;
    std::string command;  // of the command line
    std::string request;  // of the API: "POST /v1/moves/17:complete"
};

[[nodiscard]] std::vector<NextStep> next_steps_of(const MoveRecord& move);
[[nodiscard]] std::vector<NextStep> next_steps_of(const PreflightReport& report, const MoveRequest& request);

}  // namespace pgporter
