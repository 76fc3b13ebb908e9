// The operating system's user at the other end of a Unix-domain socket, as the kernel knows it since connect(). Any thread; a look into the
// user database, which may be a file or a network service: at logins only.
#pragma once

#include <optional>
#include <string>

namespace pgporter {

// Nothing: not a Unix-domain socket, or the user has no name.
[[nodiscard]] std::optional<std::string> peer_user(int socket);

}  // namespace pgporter
