#include "proxy/net/silence.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace pgporter {
namespace {

void set(int fd, int level, int option, int value) {
    ::setsockopt(fd, level, option, &value, sizeof value);  // a local socket refuses, and needs none of it
}

}  // namespace

void ask_idle_peer(int fd, std::chrono::milliseconds ms_max) {
    if (ms_max.count() == 0) return;
    // The first probe after half of the time, four in the other half.
    const int seconds = static_cast<int>(std::clamp<long long>(ms_max.count() / 1'000, 2, 30'000));
    const int idle = seconds / 2;
    const int interval = std::max(1, (seconds - idle) / 4);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, std::max(1, (seconds - idle) / interval));
}

void bound_unacknowledged(int fd, std::chrono::milliseconds ms_max) {
    if (ms_max.count() != 0) set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(ms_max.count()));
}

bool SilenceWatch::is_silent(int fd, SteadyTime now, std::chrono::milliseconds ms_max) {
    tcp_info info{};
    socklen_t size = sizeof info;
    const bool is_tcp = ms_max.count() != 0 && ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
    if (!is_tcp || (info.tcpi_unacked == 0 && info.tcpi_probes == 0)) {
        asked_since_.reset();
        return false;
    }
    // What was acknowledged since the last look counts as an answer, even if more is under way by now.
    const SteadyTime last_answer = now - std::chrono::milliseconds(info.tcpi_last_ack_recv);
    if (!asked_since_ || last_answer > *asked_since_) asked_since_ = now;
    return now - *asked_since_ >= ms_max;
}

}  // namespace pgporter
