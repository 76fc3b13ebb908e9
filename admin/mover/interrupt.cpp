#include "admin/mover/interrupt.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace pgporter {

WakeFlag::WakeFlag() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

WakeFlag::~WakeFlag() {
    ::close(fd_);
}

void WakeFlag::raise() {
    raised_.store(true, std::memory_order_release);
    const std::uint64_t one = 1;
    // It can only fail when the counter is full, and then the descriptor is readable anyway.
    [[maybe_unused]] const auto written = ::write(fd_, &one, sizeof one);
}

void WakeFlag::lower() {
    raised_.store(false, std::memory_order_release);
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(fd_, &count, sizeof count);
}

bool Interrupt::heard() const {
    switch (shield_.load(std::memory_order_acquire)) {
        case Shield::none:
            return cancel_.raised() || stop_.raised();
        case Shield::cancel:
            return stop_.raised();
        case Shield::all:
            return false;
    }
    return false;
}

Error Interrupt::error() const {
    if (stop_.raised()) return fail(ErrorKind::cancelled, "the mover is stopping");
    return fail(ErrorKind::cancelled, "the move was cancelled");
}

std::array<pollfd, 2> Interrupt::fds() const {
    const auto shield = shield_.load(std::memory_order_acquire);
    return {pollfd{shield == Shield::none ? cancel_.fd() : -1, POLLIN, 0},
            pollfd{shield == Shield::all ? -1 : stop_.fd(), POLLIN, 0}};
}

bool Interrupt::sleep(std::chrono::milliseconds duration) {
    const auto deadline = after(duration);
    while (!heard()) {
        const auto ends = fds();
        std::array<pollfd, 3> entries{ends[0], ends[1], pollfd{nudge_.fd(), POLLIN, 0}};
        const int ready = ::poll(entries.data(), entries.size(), poll_ms(deadline));
        if (ready == 0) return !heard();
        if (entries[2].revents != 0) {
            nudge_.lower();
            return !heard();
        }
    }
    return false;
}

int poll_ms(const Deadline& deadline) {
    if (!deadline) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
}

}  // namespace pgporter
