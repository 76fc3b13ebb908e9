// SCRAM-SHA-256 (RFC 5802, RFC 7677), both roles, without I/O: messages in, messages out. One object a login, owned by
// that login, on its thread. Secrets are compared in constant time, wiped when their owner dies, and never in an
// error's text.
//
// Channel binding is tls-server-end-point (RFC 5929), the one that PostgreSQL has. As a server: 'p' where the client chose
// SCRAM-SHA-256-PLUS and nowhere else; 'y' is refused where we offered it, since somebody in between took the offer away.
// As a client: 'p' where the server offers PLUS, else 'y' on TLS, 'n' elsewhere, as libpq does.
// Passwords: ASCII goes through unchanged, which is what SASLprep and PostgreSQL do with it. Other passwords are used
// as the raw UTF-8 bytes they came as, which is PostgreSQL's own fallback; a password whose SASLprep form differs from
// what was typed (ligatures, full-width forms, non-breaking spaces, decomposed accents) doesn't match a verifier that
// PostgreSQL made from it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace pgporter {

// Bounds on what a peer or a catalog may ask for: a million iterations cost most of a second of one thread.
inline constexpr int scram_iterations_max = 1'000'000;
inline constexpr std::size_t scram_salt_bytes_max = 256;
inline constexpr std::size_t scram_message_bytes_max = 4096;

// What a server keeps instead of a password: PostgreSQL's rolpassword
// "SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>".
struct ScramVerifier {
    int iterations = 0;
    std::string salt;  // decoded
    std::array<unsigned char, 32> stored_key{};
    std::array<unsigned char, 32> server_key{};
};

[[nodiscard]] Result<ScramVerifier> parse_scram_verifier(std::string_view text);
// PostgreSQL's text form. `salt` is raw bytes, 1 to scram_salt_bytes_max; iterations 1 to scram_iterations_max (else a
// bug).
[[nodiscard]] std::string make_scram_verifier(std::string_view password, std::string_view salt, int iterations);
// For a user that doesn't exist: always the same for the same secret and user, looks like any other, and no password
// fits.
[[nodiscard]] ScramVerifier mock_verifier(std::string_view process_secret, std::string_view user);

// What a client's proof teaches: enough to log in to a server that has the same verifier, and nowhere else.
struct ScramKeys {
    std::array<unsigned char, 32> client_key{};
    std::array<unsigned char, 32> server_key{};
    std::string salt;  // decoded
    int iterations = 0;

    ~ScramKeys();  // wipes the keys
};

inline constexpr std::string_view scram_mechanism = "SCRAM-SHA-256";
inline constexpr std::string_view scram_plus_mechanism = "SCRAM-SHA-256-PLUS";

// What a login is bound to. `server_end_point` is the hash of the server's certificate (raw bytes); empty: no TLS, or a
// certificate for which it isn't defined; then PLUS isn't offered. `is_plus`: SCRAM-SHA-256-PLUS was chosen.
struct ScramChannel {
    std::string server_end_point;
    bool is_plus = false;
};

// What a server offers, best first.
[[nodiscard]] std::vector<std::string> scram_mechanisms(const ScramChannel& channel);

// One client's login, seen from the server. Order: on_client_first, on_client_final; a failure is final. Errors: kind
// invalid with 08P01 or 0A000 for a message that isn't SCRAM, kind unauthenticated with 28P01 for a wrong proof and with
// 28000 for a channel that isn't the one we are at the end of.
class ScramServer {
  public:
    // `is_mock`: go through the motions and fail. `server_nonce`: random, printable, without comma (random_nonce()).
    ScramServer(ScramVerifier verifier, bool is_mock, std::string server_nonce, ScramChannel channel = {});
    ScramServer(const ScramServer&) = delete;
    ScramServer& operator=(const ScramServer&) = delete;
    ~ScramServer();

    [[nodiscard]] Result<std::string> on_client_first(std::string_view data);  // gives server-first
    [[nodiscard]] Result<std::string> on_client_final(std::string_view data);  // gives server-final
    // Valid after on_client_final succeeded.
    [[nodiscard]] const ScramKeys& learned() const;

  private:
    enum class Step : std::uint8_t { client_first, client_final, proven, failed };

    Result<std::string> read_client_first(std::string_view data);
    Result<std::string_view> read_gs2_header(std::string_view data);
    Result<std::string> check_client_final(std::string_view data);

    ScramVerifier verifier_;
    bool is_mock_;
    ScramChannel channel_;
    std::string nonce_;                // the server's part first, client's and server's after client-first
    std::string channel_binding_;      // base64 of gs2 header and channel, which client-final must have
    std::string auth_message_prefix_;  // client-first-bare "," server-first ","
    ScramKeys learned_;
    Step step_ = Step::client_first;
};

// Our login to a server. Order: client_first, on_server_first, on_server_final; a failure is final.
class ScramClient {
  public:
    ScramClient(Secret password, std::string client_nonce);
    // Fails in on_server_first when the server's salt or iterations aren't the ones that the keys belong to.
    ScramClient(ScramKeys keys, std::string client_nonce);
    // The keys when they fit what the server asks for (no key derivation), else the password. One of the two must be
    // there.
    ScramClient(std::optional<Secret> password, std::shared_ptr<const ScramKeys> keys, std::string client_nonce,
                ScramChannel channel = {});
    ScramClient(const ScramClient&) = delete;
    ScramClient& operator=(const ScramClient&) = delete;

    [[nodiscard]] std::string client_first();
    [[nodiscard]] Result<std::string> on_server_first(std::string_view data);  // gives client-final
    [[nodiscard]] Result<void> on_server_final(std::string_view data);  // checks that the server knows the verifier
    // What this login used; valid after on_server_final succeeded. Keeping it saves the next login the key derivation.
    [[nodiscard]] const ScramKeys& keys() const;

  private:
    enum class Step : std::uint8_t { start, server_first, server_final, proven, failed };

    Result<std::string> read_server_first(std::string_view data);
    Result<void> check_server_final(std::string_view data);
    Result<void> choose_keys(std::string salt, int iterations);

    std::optional<Secret> password_;
    std::shared_ptr<const ScramKeys> given_keys_;
    std::string client_nonce_;
    std::string gs2_header_;
    std::string channel_binding_;  // base64 of it and of the channel
    std::string auth_message_;
    ScramKeys keys_;
    Step step_ = Step::start;
};

// 24 printable characters from 18 random bytes.
[[nodiscard]] std::string random_nonce();

}  // namespace pgporter
