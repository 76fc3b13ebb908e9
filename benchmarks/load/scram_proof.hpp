// The client's half of SCRAM-SHA-256. The salted password is computed once for each salt, so that a login costs the loader little and the
// other side what it always costs.
#pragma once

#include <array>
#include <string>
#include <unordered_map>

namespace load {

using Digest = std::array<unsigned char, 32>;

// Shared by all clients of the process; one thread.
class ScramKeys {
  public:
    explicit ScramKeys(std::string password) : password_(std::move(password)) {}
    // The client's key (RFC 5802) for a salt, in base64, and a number of rounds.
    const Digest& client_key(const std::string& salt, int rounds);

  private:
    std::string password_;
    std::unordered_map<std::string, Digest> known_;
};

// One login.
class ScramProof {
  public:
    explicit ScramProof(int number);
    std::string first() const;
    // The final message for the server's first; empty if that makes no sense.
    std::string final(const std::string& server_first, ScramKeys& keys) const;

  private:
    std::string nonce_;
};

}  // namespace load
