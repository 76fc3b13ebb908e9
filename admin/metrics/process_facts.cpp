#include "admin/metrics/process_facts.hpp"

#include <malloc.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

// There under the address sanitizer, whose allocator the C library's count doesn't see.
extern "C" [[gnu::weak]] std::size_t __sanitizer_get_current_allocated_bytes();

namespace pgporter {
namespace {

double allocated_bytes() {
    if (&__sanitizer_get_current_allocated_bytes != nullptr) return static_cast<double>(__sanitizer_get_current_allocated_bytes());
    const struct mallinfo2 facts = ::mallinfo2();
    return static_cast<double>(facts.uordblks + facts.hblkhd);
}

std::optional<double> boot_time_seconds() {
    std::ifstream in("/proc/stat");
    std::string key;
    double value = 0;
    for (std::string line; std::getline(in, line);) {
        std::istringstream fields(line);
        if (fields >> key >> value && key == "btime") return value;
    }
    return std::nullopt;
}

std::optional<double> count_open_fds() {
    std::error_code ec;
    std::filesystem::directory_iterator it("/proc/self/fd", ec);
    if (ec) return std::nullopt;
    double count = 0;
    for (; it != std::filesystem::directory_iterator(); it.increment(ec)) {
        if (ec) return std::nullopt;
        ++count;
    }
    return count - 1;  // the directory itself is open while it is counted
}

}  // namespace

std::optional<ProcessStat> parse_process_stat(std::string_view line) {
    const auto end_of_name = line.rfind(')');
    if (end_of_name == std::string_view::npos) return std::nullopt;
    std::istringstream in{std::string(line.substr(end_of_name + 1))};
    std::vector<std::string> fields;
    for (std::string field; in >> field;) fields.push_back(field);
    // fields[0] is field 3 of proc(5): utime is 14, stime 15, starttime 22, rss 24.
    if (fields.size() < 22) return std::nullopt;
    try {
        return ProcessStat{std::stoull(fields[11]), std::stoull(fields[12]), std::stoull(fields[19]), std::stoll(fields[21])};
    } catch (const std::exception&) {
        return std::nullopt;
    }
}

ProcessFacts read_process_facts() {
    ProcessFacts facts;
    facts.open_fds = count_open_fds();
    facts.allocated_bytes = allocated_bytes();
    std::ifstream in("/proc/self/stat");
    std::string line;
    if (!std::getline(in, line)) return facts;
    const auto stat = parse_process_stat(line);
    const long ticks_per_second = ::sysconf(_SC_CLK_TCK);
    const long page_bytes = ::sysconf(_SC_PAGESIZE);
    if (!stat || ticks_per_second <= 0 || page_bytes <= 0) return facts;
    const auto tick = 1.0 / static_cast<double>(ticks_per_second);
    facts.cpu_seconds = static_cast<double>(stat->user_ticks + stat->system_ticks) * tick;
    facts.resident_memory_bytes = static_cast<double>(stat->resident_pages) * static_cast<double>(page_bytes);
    if (const auto boot = boot_time_seconds()) facts.start_time_seconds = *boot + static_cast<double>(stat->start_ticks) * tick;
    return facts;
}

}  // namespace pgporter
