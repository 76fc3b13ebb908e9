// LocalSocketFile: the path of a Unix-domain socket that we listen on, as libpq looks for it: <directory>/.s.PGSQL.<port>, with a lock file
// beside it in PostgreSQL's form (<path>.lock, our process id in its first line). Owned by an acceptor. Claiming it takes over what a dead
// process left and refuses what a living one uses; destroying it removes both files. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.hpp"

namespace pgporter {

class LocalSocketFile {
  public:
    // `conflict` when somebody listens there or holds the lock; `invalid` when the directory can't be used.
    [[nodiscard]] static Result<std::unique_ptr<LocalSocketFile>> claim(const std::string& directory, std::uint16_t port);

    LocalSocketFile(const LocalSocketFile&) = delete;
    LocalSocketFile& operator=(const LocalSocketFile&) = delete;
    ~LocalSocketFile();

    [[nodiscard]] const std::string& path() const { return path_; }
    // After bind and before listen: nobody can connect with other rights in between.
    [[nodiscard]] Result<void> set_permissions(mode_t permissions);

  private:
    LocalSocketFile(std::string path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}

    std::string path_;
    int lock_fd_;
};

}  // namespace pgporter
