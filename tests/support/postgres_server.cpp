#include "tests/support/postgres_server.hpp"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace pgporter::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* account = "postgres";  // PostgreSQL refuses to run as root
constexpr std::chrono::seconds patience{60};
constexpr std::chrono::milliseconds step{20};

[[noreturn]] void give_up(const std::string& what) {
    throw std::runtime_error("PostgresServer: " + what);
}

fs::path bin_dir() {
    const char* given = std::getenv("PGPORTER_TEST_PG_BIN");
    return given != nullptr ? given : "/usr/lib/postgresql/15/bin";
}

const passwd& account_entry() {
    static const passwd entry = [] {
        const passwd* found = ::getpwnam(account);
        if (found == nullptr) give_up("there is no user postgres to run as");
        return *found;
    }();
    return entry;
}

// Runs in the child between fork and exec: system calls only.
void become_account(uid_t uid, gid_t gid, const char* log_file) {
    if (::geteuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setgid(gid) != 0 || ::setuid(uid) != 0)) ::_exit(126);
    ::prctl(PR_SET_PDEATHSIG, SIGQUIT);  // a test that is killed leaves no server
    const int log = ::open(log_file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log < 0) ::_exit(126);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    for (int fd = 3; fd < 256; ++fd) ::close(fd);  // nobody's sockets
}

pid_t spawn(const std::vector<std::string>& command, const std::string& log_file) {
    std::vector<char*> argv;
    for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const bool root = ::geteuid() == 0;
    const uid_t uid = root ? account_entry().pw_uid : 0;
    const gid_t gid = root ? account_entry().pw_gid : 0;
    const pid_t pid = ::fork();
    if (pid < 0) give_up("fork failed");
    if (pid == 0) {
        become_account(uid, gid, log_file.c_str());
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    return pid;
}

std::string read_file(const fs::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::string new_folder() {
    std::string path = (fs::temp_directory_path() / "pgporter-test-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) give_up("no temporary folder");
    if (::geteuid() == 0 && ::chown(path.c_str(), account_entry().pw_uid, account_entry().pw_gid) != 0)
        give_up("chown failed");
    return path;
}

void run(const std::vector<std::string>& command, const std::string& log_file) {
    const pid_t pid = spawn(command, log_file);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) give_up(command.front() + " failed: " + read_file(log_file));
}

// initdb takes a second: it runs once a process for each password, and every server gets a copy.
class Templates {
  public:
    ~Templates() {
        std::error_code ignored;
        for (const auto& [password, folder] : folders_) fs::remove_all(folder, ignored);
    }
    std::string of(const std::string& password) {
        auto& folder = folders_[password];
        if (!folder.empty()) return folder + "/data";
        folder = new_folder();
        std::ofstream(folder + "/password") << password << '\n';
        run({bin_dir() / "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8",
             "--locale=C.UTF-8", "--pwfile=" + folder + "/password", "--pgdata=" + folder + "/data"},
            folder + "/log");
        return folder + "/data";
    }

  private:
    std::map<std::string, std::string> folders_;
};

std::uint16_t free_port() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        give_up("no free port");
    }
    ::close(fd);
    return ntohs(address.sin_port);
}

std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> children;
    for (const auto& entry : fs::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        const std::string stat = read_file(entry.path() / "stat");  // "pid (name) state parent ..."
        const auto after_name = stat.rfind(')');
        if (after_name == std::string::npos) continue;
        std::istringstream rest(stat.substr(after_name + 1));
        std::string state;
        pid_t its_parent = 0;
        rest >> state >> its_parent;
        if (its_parent == parent) children.push_back(static_cast<pid_t>(std::stol(name)));
    }
    return children;
}

}  // namespace

PostgresServer::~PostgresServer() {
    try {
        stop(Stop::immediate);
    } catch (const std::exception&) {
        // Nothing more can be done for a process that doesn't end; its folder goes anyway.
    }
    std::error_code ignored;
    if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

void PostgresServer::start(const PostgresOptions& options) {
    static Templates templates;
    if (!folder_.empty()) give_up("started twice");
    folder_ = new_folder();
    const std::string data = folder_ + "/data";
    run({"/bin/cp", "-a", templates.of(options.superuser_password), data}, folder_ + "/log");
    port_ = free_port();
    std::ofstream conf(data + "/postgresql.conf", std::ios::app);
    conf << "listen_addresses = '127.0.0.1'\nport = " << port_ << "\nunix_socket_directories = '" << folder_ << "'\n"
         << "wal_level = " << options.wal_level << "\nfsync = off\nshared_buffers = 16MB\nmax_connections = 100\n";
    for (const auto& line : options.settings) conf << line << '\n';
    conf.close();
    std::ofstream hba(data + "/pg_hba.conf", std::ios::trunc);
    for (const auto* type : {"local all", "local replication"}) hba << type << " all " << options.auth << '\n';
    for (const auto* type : {"host all", "host replication"})
        hba << type << " all 127.0.0.1/32 " << options.auth << '\n';
    hba.close();
    launch();
}

void PostgresServer::launch() {
    pid_ = spawn({bin_dir() / "postgres", "-D", folder_ + "/data"}, folder_ + "/log");
    const auto until = Clock::now() + patience;
    const std::string where = dsn();
    while (PQping(where.c_str()) != PQPING_OK) {
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) == pid_) {
            pid_ = 0;
            give_up("the server ended: " + log());
        }
        if (Clock::now() > until) give_up("the server doesn't answer: " + log());
        std::this_thread::sleep_for(step);
    }
}

void PostgresServer::stop(Stop how) {
    if (pid_ <= 0) return;
    signal_all(SIGCONT);  // a paused server doesn't hear anything else
    ::kill(pid_, how == Stop::fast ? SIGINT : SIGQUIT);
    const auto until = Clock::now() + patience;
    int status = 0;
    while (::waitpid(pid_, &status, WNOHANG) == 0) {
        if (Clock::now() > until) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, &status, 0);
            pid_ = 0;
            give_up("the server had to be killed");
        }
        std::this_thread::sleep_for(step);
    }
    pid_ = 0;
}

void PostgresServer::restart() {
    stop(Stop::fast);
    launch();
}

void PostgresServer::pause() {
    signal_all(SIGSTOP);
}

void PostgresServer::resume() {
    signal_all(SIGCONT);
}

void PostgresServer::signal_all(int signal) const {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);  // first: a stopped postmaster forks nobody new
    for (const pid_t child : children_of(pid_)) ::kill(child, signal);
}

std::string PostgresServer::dsn(const std::string& database, const std::string& user) const {
    return "host=127.0.0.1 port=" + std::to_string(port_) + " dbname=" + database + " user=" + user +
           " connect_timeout=10";
}

std::string PostgresServer::log() const {
    return read_file(folder_ + "/log");
}

}  // namespace pgporter::test
