// SASLprep (RFC 4013) as PostgreSQL does it to a password before SCRAM hashes it, for the characters that passwords are made of. Pure; any
// thread. It has no tables of Unicode: a character whose normal form it doesn't know for certain makes it give up, and never guess.
// docs/decisions/0008 says why.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pgporter {

// The bytes that PostgreSQL would hash; text that isn't UTF-8, or has a prohibited character, as it is. Nullopt: not known here.
[[nodiscard]] std::optional<std::string> saslprep(std::string_view password);

}  // namespace pgporter
