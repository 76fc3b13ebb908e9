#include "admin/cli/password_prompt.hpp"

#include <termios.h>
#include <unistd.h>

#include <iostream>
#include <string>

namespace pgporter {
namespace {

// The terminal echoes again however this ends.
class NoEcho {
  public:
    NoEcho() {
        if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
        termios silent = before_;
        silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        changed_ = ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0;
    }
    ~NoEcho() {
        if (changed_) (void)::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    }
    NoEcho(const NoEcho&) = delete;
    NoEcho& operator=(const NoEcho&) = delete;

  private:
    termios before_{};
    bool changed_ = false;
};

Result<Secret> read_line() {
    std::string line;
    if (!std::getline(std::cin, line)) return fail(ErrorKind::invalid, "no password was given");
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return Secret(std::move(line));
}

}  // namespace

Result<Secret> read_password() {
    if (::isatty(STDIN_FILENO) == 0) return read_line();
    const NoEcho no_echo;
    std::cerr << "Password: " << std::flush;
    auto first = read_line();
    std::cerr << "\nAgain: " << std::flush;
    if (!first) return first;
    const auto second = read_line();
    std::cerr << "\n";
    if (!second) return second;
    if (!first->equals(second->reveal())) return fail(ErrorKind::invalid, "the two passwords differ");
    return first;
}

}  // namespace pgporter
