// What the kernel (Linux, /proc) and the allocator say about this process. Values; any thread.
#pragma once

#include <optional>
#include <string_view>

namespace pgporter {

struct ProcessFacts {
    std::optional<double> start_time_seconds;  // since 1970
    std::optional<double> cpu_seconds;         // user and system
    std::optional<double> resident_memory_bytes;
    std::optional<double> open_fds;
    std::optional<double> allocated_bytes;  // and not freed; what the allocator keeps besides isn't in it
};

struct ProcessStat {  // of one line of /proc/<pid>/stat
    unsigned long long user_ticks = 0;
    unsigned long long system_ticks = 0;
    unsigned long long start_ticks = 0;  // since boot
    long long resident_pages = 0;
};

[[nodiscard]] ProcessFacts read_process_facts();
// Pure. The command's name may hold spaces and brackets, so fields are counted from the last closing one.
[[nodiscard]] std::optional<ProcessStat> parse_process_stat(std::string_view line);

}  // namespace pgporter
