#include "proxy/net/process_limits.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace pgporter {
namespace {

// Of the group itself and of those around it: each may have a limit.
std::uint64_t control_group_bytes_max() {
    std::uint64_t least = UINT64_MAX;
    std::ifstream own("/proc/self/cgroup");
    std::string line;
    while (std::getline(own, line)) {
        if (!line.starts_with("0::/")) continue;
        std::string path = line.substr(3);
        while (!path.empty()) {
            std::ifstream file("/sys/fs/cgroup" + path + "/memory.max");
            std::uint64_t bytes = 0;
            if (file >> bytes) least = std::min(least, bytes);  // "max" is no number
            path.resize(path.rfind('/'));
        }
    }
    return least;
}

}  // namespace

void raise_descriptors_max() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    [[maybe_unused]] const int refused = ::setrlimit(RLIMIT_NOFILE, &limit);  // then it stays as it is
}

std::uint64_t descriptors_max() {
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : UINT64_MAX;
}

std::uint64_t memory_bytes_max() {
    const long pages = ::sysconf(_SC_PHYS_PAGES);
    const long page_bytes = ::sysconf(_SC_PAGESIZE);
    std::uint64_t bytes = pages > 0 && page_bytes > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes) : UINT64_MAX;
    bytes = std::min(bytes, control_group_bytes_max());
    rlimit limit{};
    if (::getrlimit(RLIMIT_AS, &limit) == 0) bytes = std::min<std::uint64_t>(bytes, limit.rlim_cur);
    return bytes;
}

}  // namespace pgporter
