// The few primitives that logins need, over OpenSSL, in one place: nothing else in proxy/wire includes OpenSSL. Pure
// functions (random_bytes apart); any thread. A failing primitive is a broken installation and stops the process: there
// is no safe way on.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace pgporter {

using Sha256 = std::array<unsigned char, 32>;

[[nodiscard]] inline std::string_view as_text(const Sha256& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

[[nodiscard]] Sha256 sha256(std::string_view data);
[[nodiscard]] Sha256 hmac_sha256(std::string_view key, std::string_view data);
[[nodiscard]] Sha256 pbkdf2_sha256(std::string_view password, std::string_view salt, int iterations);
[[nodiscard]] bool equal_in_constant_time(const Sha256& left, const Sha256& right);
void wipe(Sha256& bytes);

// What PostgreSQL's md5 method answers: "md5" + hex(md5(hex(md5(password + user)) + salt)).
[[nodiscard]] std::string md5_response(std::string_view user, std::string_view password, std::string_view salt);

[[nodiscard]] std::string random_bytes(std::size_t count);

[[nodiscard]] std::string base64_encode(std::string_view bytes);
// Strict: padded, no white space, no unused bits set. nullopt otherwise.
[[nodiscard]] std::optional<std::string> base64_decode(std::string_view text);

}  // namespace pgporter
