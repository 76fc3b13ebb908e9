#include "benchmarks/load/client.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace load {
namespace {

std::string number_bytes(std::size_t value) {
    const std::uint32_t wire = htonl(static_cast<std::uint32_t>(value));
    return {reinterpret_cast<const char*>(&wire), sizeof wire};
}

std::uint32_t number_at(const std::string& bytes, std::size_t at) {
    std::uint32_t wire = 0;
    std::memcpy(&wire, bytes.data() + at, sizeof wire);
    return ntohl(wire);
}

std::string message(char kind, const std::string& body) { return kind + number_bytes(body.size() + 4) + body; }

// The message of an ErrorResponse.
std::string error_text(const std::string& body) {
    for (std::size_t at = 0; at < body.size() && body[at] != '\0'; at = body.find('\0', at) + 1)
        if (body[at] == 'M') return body.substr(at + 1, body.find('\0', at) - at - 1);
    return "an error without a message";
}

}  // namespace

void Client::open() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(around_.options.port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) return fail(std::strerror(errno));
    const int yes = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) return fail(std::strerror(errno));
    stage_ = Stage::connecting;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = this;
    ::epoll_ctl(around_.epoll, EPOLL_CTL_ADD, fd_, &event);
}

void Client::close() {
    if (ssl_ != nullptr) SSL_free(ssl_);
    ssl_ = nullptr;
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    in_.clear();
    out_.clear();
    stage_ = Stage::closed;
}

void Client::fail(const std::string& why) {
    if (around_.first_error.empty()) around_.first_error = why;
    close();
}

void Client::send_query() {
    stage_ = Stage::busy;
    write(around_.query);
}

void Client::leave() {
    write(message('X', ""));
    if (ssl_ != nullptr) SSL_shutdown(ssl_);
    close();
}

void Client::write(const std::string& bytes) {
    out_ += bytes;
    flush();
}

void Client::flush() {
    while (!out_.empty() && fd_ >= 0) {
        const auto done = ssl_ != nullptr ? static_cast<ssize_t>(SSL_write(ssl_, out_.data(), static_cast<int>(out_.size())))
                                          : ::send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
        if (done <= 0) return;  // later, or the next read finds out
        out_.erase(0, static_cast<std::size_t>(done));
    }
}

void Client::begin_startup() {
    std::string database = around_.options.database;
    if (const auto at = database.find('%'); at != std::string::npos) database.replace(at, 1, std::to_string(number_));
    const std::string body = number_bytes(196608) + "user" + '\0' + around_.options.user + '\0' + "database" + '\0' + database + '\0' + '\0';
    stage_ = Stage::login;
    write(number_bytes(body.size() + 4) + body);
}

void Client::shake_hands() {
    const int done = SSL_connect(ssl_);
    if (done == 1) return begin_startup();
    const int why = SSL_get_error(ssl_, done);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) fail("TLS handshake failed");
}

void Client::on_ready(std::uint32_t events) {
    if (stage_ == Stage::connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) return fail(std::strerror(error));
        if (around_.tls == nullptr) {
            begin_startup();
        } else {
            stage_ = Stage::tls_asked;
            write(number_bytes(8) + number_bytes(80877103));
        }
    }
    if (stage_ == Stage::tls_asked && (events & EPOLLIN) != 0) {
        char answer = 0;
        const auto got = ::recv(fd_, &answer, 1, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got != 1 || answer != 'S') return fail("no TLS there");
        ssl_ = SSL_new(around_.tls);
        SSL_set_fd(ssl_, fd_);
        stage_ = Stage::handshake;
    }
    if (stage_ == Stage::handshake) shake_hands();
    if (stage_ < Stage::login) return;
    flush();
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 || ssl_ != nullptr) read_all();
}

void Client::read_all() {
    char chunk[16384];
    while (fd_ >= 0) {
        const auto got = ssl_ != nullptr ? static_cast<ssize_t>(SSL_read(ssl_, chunk, sizeof chunk)) : ::recv(fd_, chunk, sizeof chunk, 0);
        if (got <= 0) {
            const bool is_later = ssl_ != nullptr ? SSL_get_error(ssl_, static_cast<int>(got)) == SSL_ERROR_WANT_READ : got < 0 && errno == EAGAIN;
            if (!is_later) fail("the other side closed the connection");
            return;
        }
        in_.append(chunk, static_cast<std::size_t>(got));
        take_messages();
    }
}

void Client::take_messages() {
    std::size_t at = 0;
    while (in_.size() - at >= 5) {
        const std::size_t size = number_at(in_, at + 1);
        if (in_.size() - at < size + 1) break;
        const char kind = in_[at];
        // Rows and the like are looked at only while logging in.
        const std::string body = kind == 'R' || kind == 'E' ? in_.substr(at + 5, size - 4) : std::string();
        at += size + 1;
        take(kind, body);
        if (stage_ == Stage::closed) return;
    }
    in_.erase(0, at);
}

void Client::take(char kind, const std::string& body) {
    if (kind == 'R') return authenticate(body);
    if (kind == 'E') return fail(error_text(body));
    if (kind == 'Z') stage_ = Stage::idle;
}

void Client::authenticate(const std::string& body) {
    const auto code = number_at(body, 0);
    if (code == 10) {
        scram_ = std::make_unique<ScramProof>(number_);
        const std::string first = scram_->first();
        write(message('p', std::string("SCRAM-SHA-256") + '\0' + number_bytes(first.size()) + first));
    } else if (code == 11 && scram_) {
        write(message('p', scram_->final(body.substr(4), around_.keys)));
        scram_.reset();
    } else if (code != 0 && code != 12) {
        fail("a way to log in that isn't known here");
    }
}

}  // namespace load
