// Serve: builds everything of one instance and runs it until a signal says stop. The one place where data path and control plane
// meet: they know each other only through catalog/gate.hpp and snapshots. Main thread.
#pragma once

#include <string>

#include "base/result.hpp"

namespace pgporter {

// Blocks every signal that serve() waits for; call first, before any thread exists.
void block_signals();

// Returns after an orderly stop. An error is a failed start: its message and hint say what to do.
[[nodiscard]] Result<void> serve(const std::string& config_file);

}  // namespace pgporter
