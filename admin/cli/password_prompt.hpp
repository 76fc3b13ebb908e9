// Asks for a password on the terminal without echo, twice; from a pipe it reads one line. Main thread only.
#pragma once

#include "base/result.hpp"
#include "base/secret.hpp"

namespace pgporter {

[[nodiscard]] Result<Secret> read_password();

}  // namespace pgporter
