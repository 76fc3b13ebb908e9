// run_child: runs one program (pg_dump, pg_restore) to its end, hears the move's Interrupt meanwhile, keeps the last of
// what it said on stderr. Files are anonymous memory: nothing of it stays on a disk, whatever dies. Any control-plane
// thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "admin/mover/interrupt.hpp"
#include "base/result.hpp"

namespace pgporter {

// A file without a name, gone with its last descriptor.
class MemoryFile {
  public:
    [[nodiscard]] static Result<MemoryFile> create(const char* purpose);
    MemoryFile(MemoryFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    MemoryFile& operator=(MemoryFile&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~MemoryFile();

    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] Result<void> write(std::string_view text);
    [[nodiscard]] Result<std::string> read_all() const;
    void rewind() const;

  private:
    explicit MemoryFile(int fd) : fd_(fd) {}
    int fd_ = -1;
};

struct ChildProcess {
    std::string program;  // found on PATH unless absolute
    std::vector<std::string> arguments;
    std::vector<std::pair<std::string, std::string>>
        environment;                     // replaces the parent's of the same name; PG* isn't inherited
    const MemoryFile* input = nullptr;   // stdin, read from its start
    const MemoryFile* output = nullptr;  // stdout
    const MemoryFile* list = nullptr;    // /dev/fd/3
};

// internal: it ended with a status other than 0; detail carries the last lines of its stderr. cancelled: it was ended.
[[nodiscard]] Result<void> run_child(const ChildProcess& child, const Interrupt& interrupt);

}  // namespace pgporter
