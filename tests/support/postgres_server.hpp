// PostgresServer: a private PostgreSQL for tests. Data in a temporary folder of its own, listening on 127.0.0.1 (a free
// port) and on a Unix-domain socket; runs as user postgres when the test is root. Stopped by its own pid and removed
// when destroyed. One thread. What it throws (std::runtime_error) ends the test: a server that can't start is not a
// test result.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace pgporter::test {

struct PostgresOptions {
    std::vector<std::string> settings;            // lines of postgresql.conf, e.g. "max_connections = 20"
    std::string auth = "trust";                   // of pg_hba.conf for every connection: trust, scram-sha-256 ...
    std::string wal_level = "replica";            // "logical" for moves
    std::string superuser_password = "postgres";  // of role postgres; matters unless auth is trust
};

class PostgresServer {
  public:
    enum class Stop { fast, immediate };

    PostgresServer() = default;
    explicit PostgresServer(const PostgresOptions& options) { start(options); }
    PostgresServer(const PostgresServer&) = delete;
    PostgresServer& operator=(const PostgresServer&) = delete;
    ~PostgresServer();

    void start(const PostgresOptions& options = {});  // initdb and start; returns when it accepts connections
    void stop(Stop how = Stop::fast);                 // nothing if it is stopped
    void restart();                                   // the same port and data; also after stop()
    void pause();                                     // SIGSTOP to every process of the server: alive but silent
    void resume();

    [[nodiscard]] bool running() const { return pid_ > 0; }
    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] const std::string& socket_dir() const { return folder_; }
    // A libpq connection string over TCP.
    [[nodiscard]] std::string dsn(const std::string& database = "postgres", const std::string& user = "postgres") const;
    [[nodiscard]] std::string log() const;  // what the server wrote so far

  private:
    void launch();
    void signal_all(int signal) const;

    std::string folder_;
    std::uint16_t port_ = 0;
    pid_t pid_ = 0;
};

}  // namespace pgporter::test
