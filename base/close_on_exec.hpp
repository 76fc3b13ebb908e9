// close_on_exec: programs that pgporter starts (pg_dump ..) inherit nothing of its own. For descriptors that Asio opens, which sets no such flag.
// Any thread.
#pragma once

#include <fcntl.h>

namespace pgporter {

inline void close_on_exec(int fd) {
    [[maybe_unused]] const int done = ::fcntl(fd, F_SETFD, FD_CLOEXEC);  // fails for a bad descriptor only, which its user will see
}

}  // namespace pgporter
