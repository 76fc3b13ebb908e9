// SCRAM-SHA-256 verifiers for tenants.yaml, in PostgreSQL's own form (RFC 5803 contents): made where the password is known, so that the
// catalog never sees one. Pure apart from random_salt(); any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace pgporter {

inline constexpr std::uint32_t scram_iterations_default = 4096;

// 16 random bytes.
[[nodiscard]] Result<std::string> random_salt();
// "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>". invalid: an empty password, or one that isn't printable ASCII (others need
// SASLprep, which PostgreSQL's own CREATE ROLE does).
[[nodiscard]] Result<std::string> make_scram_verifier(const Secret& password, std::string_view salt, std::uint32_t iterations);

}  // namespace pgporter
