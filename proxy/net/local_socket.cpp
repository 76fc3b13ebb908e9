#include "proxy/net/local_socket.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace pgporter {
namespace {

Error in_use(const std::string& path) {
    return fail(ErrorKind::conflict, "can't listen on " + path + ": somebody listens there", {},
                "stop what listens there, or change listen.socket_directory or listen.port in the configuration");
}

Error unusable(const std::string& path, int error) {
    return fail(ErrorKind::invalid, "can't listen on " + path + ": " + std::strerror(error), {},
                "listen.socket_directory must be a directory that pgporter may write to");
}

// The lock is the kernel's, so it goes with the process; the file's text is for PostgreSQL, which knows only that.
Result<int> take_lock(const std::string& path) {
    constexpr int attempts_max = 10;
    for (int attempt = 0; attempt < attempts_max; ++attempt) {
        const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) return unusable(path, errno);
        if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
            ::close(fd);
            return in_use(path);
        }
        // Whoever had it may have removed the file between our two calls: then this lock is on nothing.
        struct stat opened{};
        struct stat named{};
        const bool known = ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0;
        if (known && opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) return fd;
        ::close(fd);
    }
    return in_use(path);
}

// True: a process listens. Only asking tells that from a file that a dead one left.
Result<bool> is_listened_on(const std::string& path) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return unusable(path, errno);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const int connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    const int error = errno;
    ::close(fd);
    if (connected == 0 || error == EAGAIN || error == EINPROGRESS) return true;
    if (error == ENOENT || error == ECONNREFUSED) return false;
    return unusable(path, error);
}

}  // namespace

Result<std::unique_ptr<LocalSocketFile>> LocalSocketFile::claim(const std::string& directory, std::uint16_t port) {
    const std::string path = directory + "/.s.PGSQL." + std::to_string(port);
    if (path.size() >= sizeof(sockaddr_un::sun_path)) return unusable(path, ENAMETOOLONG);
    Result<int> lock = take_lock(path + ".lock");
    if (!lock) return lock.error();
    std::unique_ptr<LocalSocketFile> file(new LocalSocketFile(path, *lock));
    struct stat there{};
    const bool exists = ::lstat(path.c_str(), &there) == 0;
    if (exists && !S_ISSOCK(there.st_mode)) {
        file->path_.clear();  // not ours: it stays
        return fail(ErrorKind::conflict, "can't listen on " + path + ": there is something that isn't a socket", {},
                    "remove it, or choose another directory");
    }
    Result<bool> listened = exists ? is_listened_on(path) : Result<bool>(false);
    if (!listened || *listened) {
        file->path_.clear();
        if (!listened) return listened.error();
        return in_use(path);
    }
    if (exists && ::unlink(path.c_str()) != 0) return unusable(path, errno);
    const std::string text = std::to_string(::getpid()) + "\n";
    const bool written = ::ftruncate(*lock, 0) == 0 && ::pwrite(*lock, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
    if (!written) return unusable(path + ".lock", errno);
    return file;
}

LocalSocketFile::~LocalSocketFile() {
    if (!path_.empty()) {
        ::unlink(path_.c_str());
        ::unlink((path_ + ".lock").c_str());
    }
    ::close(lock_fd_);
}

Result<void> LocalSocketFile::set_permissions(mode_t permissions) {
    if (::chmod(path_.c_str(), permissions) != 0) return unusable(path_, errno);
    return {};
}

}  // namespace pgporter
