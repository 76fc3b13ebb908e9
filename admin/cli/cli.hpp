// The command line: an operator's hands. Speaks only the HTTP API of a running instance (docs/operations.md), so it can do nothing
// that the API can't. `serve` and `--version` are the executable's own (proxy/app); everything else comes here. One thread.
#pragma once

namespace pgporter {

// Exit codes, stable for scripts.
enum ExitCode : int {
    exit_ok = 0,
    exit_failed = 1,       // the server said no, or the move was aborted; the problem is on stderr
    exit_usage = 2,        // wrong arguments
    exit_unreachable = 3,  // no server answered
    exit_conflict = 4      // the present state forbids it (HTTP 409)
};

// Options: --url (PGPORTER_URL), --token-file (PGPORTER_TOKEN_FILE), PGPORTER_TOKEN, --json. A token is never an argument: those are
// visible to everybody on the machine.
[[nodiscard]] int run_cli(int argc, char** argv);

}  // namespace pgporter
