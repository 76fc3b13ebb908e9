// recv() and send() of a socket for the data path: the system calls alone, as these functions return and set errno. glibc's own are
// cancellation points, which announce themselves before and after each call once a process has threads; nobody cancels a thread here, and it
// costs 3 % of a transaction. Any thread. It must not: wait (both are told not to).
#pragma once

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

namespace pgporter {

// The sanitizers watch glibc's functions.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(SYS_recvfrom) || !defined(SYS_sendto)
inline ssize_t receive_now(int socket, void* into, std::size_t size, int flags = 0) {
    return ::recv(socket, into, size, flags | MSG_DONTWAIT);
}
inline ssize_t send_now(int socket, const void* bytes, std::size_t size) {
    return ::send(socket, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}
#else
inline ssize_t receive_now(int socket, void* into, std::size_t size, int flags = 0) {
    return ::syscall(SYS_recvfrom, socket, into, size, flags | MSG_DONTWAIT, nullptr, nullptr);
}
inline ssize_t send_now(int socket, const void* bytes, std::size_t size) {
    return ::syscall(SYS_sendto, socket, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL, nullptr, 0);
}
#endif

}  // namespace pgporter
