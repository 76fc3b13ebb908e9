#include "proxy/net/peer_user.hpp"

#include <pwd.h>
#include <sys/socket.h>

#include <array>

namespace pgporter {

std::optional<std::string> peer_user(int socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    // Of a TCP socket the kernel answers too, with user -1.
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0 || credentials.uid == static_cast<uid_t>(-1)) return std::nullopt;
    passwd entry{};
    passwd* found = nullptr;
    std::array<char, 16'384> buffer{};
    if (getpwuid_r(credentials.uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) return std::nullopt;
    return std::string(found->pw_name);
}

}  // namespace pgporter
