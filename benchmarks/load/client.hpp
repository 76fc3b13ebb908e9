// One client connection of the load generator: connects, logs in (TLS and SCRAM if asked for), sends simple queries and waits for the answers.
// One thread; the owner calls `on_ready` for each event of its descriptor, which is watched edge-triggered from connect to close.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <openssl/ssl.h>

#include "benchmarks/load/options.hpp"
#include "benchmarks/load/scram_proof.hpp"

namespace load {

enum class Stage { closed, connecting, tls_asked, handshake, login, idle, busy };

// What all clients share.
struct Surroundings {
    const Options& options;
    ScramKeys& keys;
    SSL_CTX* tls = nullptr;
    int epoll = -1;
    std::string query;  // the message
    std::string first_error;
};

class Client {
  public:
    Client(Surroundings& around, int number) : around_(around), number_(number) {}
    ~Client() { close(); }
    Client(const Client&) = delete;

    void open();
    void close();
    // Only while idle.
    void send_query();
    // Says good-bye and closes.
    void leave();
    void on_ready(std::uint32_t events);

    Stage stage() const { return stage_; }
    int number() const { return number_; }

    // Of the run under way; the owner's.
    std::int64_t due_ns = 0;
    bool is_waiting = false;  // for an answer
    int answered = 0;

  private:
    void fail(const std::string& why);
    void write(const std::string& bytes);
    void flush();
    void begin_startup();
    void shake_hands();
    void read_all();
    void take_messages();
    void take(char kind, const std::string& body);
    void authenticate(const std::string& body);

    Surroundings& around_;
    const int number_;
    Stage stage_ = Stage::closed;
    int fd_ = -1;
    SSL* ssl_ = nullptr;
    std::string in_, out_;
    std::unique_ptr<ScramProof> scram_;
};

}  // namespace load
