#include "proxy/net/client_address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace pgporter {

ClientAddress client_address_of(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
    ClientAddress client{ip_from_sockaddr(reinterpret_cast<const sockaddr&>(address)), 0};
    if (address.ss_family == AF_INET) client.port = ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
    if (address.ss_family == AF_INET6) client.port = ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
    return client;
}

}  // namespace pgporter
