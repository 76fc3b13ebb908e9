#include "admin/mover/child_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

extern char** environ;  // NOLINT: POSIX declares it so

namespace pgporter {
namespace {

constexpr std::size_t stderr_kept_bytes_max = 4'096;
constexpr int list_fd = 3;

Error system_error(std::string what) {
    return fail(ErrorKind::internal, std::move(what), std::strerror(errno));
}

std::vector<std::string> environment_of(const ChildProcess& child) {
    std::vector<std::string> entries;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text = *entry;
        const auto name = text.substr(0, text.find('='));
        bool replaced = name.starts_with("PG") || name == "LC_ALL" || name == "LC_MESSAGES";
        for (const auto& variable : child.environment) replaced = replaced || variable.first == name;
        if (!replaced) entries.emplace_back(text);
    }
    for (const auto& [name, value] : child.environment) entries.push_back(name + "=" + value);
    entries.emplace_back("LC_MESSAGES=C");
    return entries;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> all;
    for (auto& text : texts) all.push_back(text.data());
    all.push_back(nullptr);
    return all;
}

Result<pid_t> spawn(const ChildProcess& child, int stderr_fd) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (child.input != nullptr) {
        child.input->rewind();
        posix_spawn_file_actions_adddup2(&actions, child.input->fd(), STDIN_FILENO);
    } else {
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    if (child.output != nullptr) {
        posix_spawn_file_actions_adddup2(&actions, child.output->fd(), STDOUT_FILENO);
    } else {
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    }
    posix_spawn_file_actions_adddup2(&actions, stderr_fd, STDERR_FILENO);
    if (child.list != nullptr) {
        child.list->rewind();
        posix_spawn_file_actions_adddup2(&actions, child.list->fd(), list_fd);
    }
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    // The parent may ignore or block signals that must end the child; and Ctrl-C on a terminal is the parent's to
    // handle.
    sigset_t none;
    sigset_t defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGTERM);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

    std::vector<std::string> arguments{child.program};
    arguments.insert(arguments.end(), child.arguments.begin(), child.arguments.end());
    auto environment = environment_of(child);
    pid_t pid = -1;
    const int error = ::posix_spawnp(&pid, child.program.c_str(), &actions, &attributes, pointers(arguments).data(),
                                     pointers(environment).data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        return fail(ErrorKind::internal, "cannot start " + child.program, std::strerror(error),
                    "install the PostgreSQL client programs, or name them in mover.pg_dump and mover.pg_restore");
    }
    return pid;
}

// Reads stderr until the child has closed it. False: interrupted.
bool collect(int fd, std::string& said, const Interrupt& interrupt) {
    for (;;) {
        if (interrupt.heard()) return false;
        const auto ends = interrupt.fds();
        std::array<pollfd, 3> entries{pollfd{fd, POLLIN, 0}, ends[0], ends[1]};
        if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) return true;
        if (entries[0].revents == 0) continue;
        char chunk[1024];
        const auto got = ::read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return true;
        said.append(chunk, static_cast<std::size_t>(got));
        if (said.size() > 2 * stderr_kept_bytes_max) said.erase(0, said.size() - stderr_kept_bytes_max);
    }
}

int wait_for_end(pid_t pid, bool kill_now) {
    if (kill_now) ::kill(pid, SIGTERM);
    int status = 0;
    for (int waited_ms = 0; kill_now && waited_ms < 2'000; waited_ms += 20) {
        if (::waitpid(pid, &status, WNOHANG) == pid) return status;
        ::poll(nullptr, 0, 20);
    }
    if (kill_now) ::kill(pid, SIGKILL);
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

}  // namespace

Result<MemoryFile> MemoryFile::create(const char* purpose) {
    const int fd = ::memfd_create(purpose, MFD_CLOEXEC);
    if (fd < 0) return system_error("cannot make a file in memory");
    // Above the descriptors that a child is given, so that handing one over never overwrites another.
    const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, 16);
    ::close(fd);
    if (moved < 0) return system_error("cannot make a file in memory");
    return MemoryFile(moved);
}

MemoryFile::~MemoryFile() {
    if (fd_ >= 0) ::close(fd_);
}

void MemoryFile::rewind() const {
    ::lseek(fd_, 0, SEEK_SET);
}

Result<void> MemoryFile::write(std::string_view text) {
    while (!text.empty()) {
        const auto written = ::write(fd_, text.data(), text.size());
        if (written < 0) return system_error("cannot write to a file in memory");
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return {};
}

Result<std::string> MemoryFile::read_all() const {
    std::string text;
    char chunk[65536];
    off_t offset = 0;
    for (;;) {
        const auto got = ::pread(fd_, chunk, sizeof chunk, offset);
        if (got < 0) return system_error("cannot read a file in memory");
        if (got == 0) return text;
        text.append(chunk, static_cast<std::size_t>(got));
        offset += got;
    }
}

Result<void> run_child(const ChildProcess& child, const Interrupt& interrupt) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make a pipe");
    auto pid = spawn(child, ends[1]);
    ::close(ends[1]);
    if (!pid) {
        ::close(ends[0]);
        return pid.error();
    }
    std::string said;
    const bool ended = collect(ends[0], said, interrupt);
    ::close(ends[0]);
    const int status = wait_for_end(*pid, !ended);
    if (!ended) return interrupt.error();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    while (!said.empty() && said.back() == '\n') said.pop_back();
    if (said.size() > stderr_kept_bytes_max) said.erase(0, said.size() - stderr_kept_bytes_max);
    const auto how = WIFEXITED(status) ? "failed with status " + std::to_string(WEXITSTATUS(status))
                                       : "was ended by signal " + std::to_string(WTERMSIG(status));
    return fail(ErrorKind::internal, child.program + " " + how, std::move(said));
}

}  // namespace pgporter
