// What we want to know of a certificate. Pure functions over OpenSSL's X509; any thread. A certificate that doesn't say gives an empty answer,
// never a guess.
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pgporter {

// The DNS names it is for, in lower case: of its subjectAltName or, if that has none, its common name. A wildcard stays "*.example.com".
[[nodiscard]] std::vector<std::string> host_names_of(X509* certificate);
// The subject's common name; nullopt: none, several (nobody could say which counts), or one with a zero byte in it (CVE-2009-4034).
[[nodiscard]] std::optional<std::string> common_name_of(X509* certificate);
// The data of the channel binding tls-server-end-point (RFC 5929): the certificate's hash by its own signature algorithm, but at least SHA-256.
// Empty: the signature algorithm has no hash of its own (Ed25519), so this binding isn't defined for it.
[[nodiscard]] std::string server_end_point_of(X509* certificate);
// Seconds since 1970; 0: it doesn't say.
[[nodiscard]] std::int64_t expiry_of(X509* certificate);

}  // namespace pgporter
