// What the fence of a move says to whoever it refuses, where the mover (which makes the fence) and the data path (which meets it) must agree.
// Pure. It must not: name a tenant to somebody who didn't name it.
#pragma once

#include <string>
#include <string_view>

namespace pgporter {

// So begins the error's detail where the fence is about rows of shared tables. They need not be rows of the tenant that writes.
inline constexpr std::string_view row_fence_words = "Rows ";
inline constexpr std::string_view row_fence_truncate_detail = "Rows of a tenant that has moved are in the table.";

// By tenant_key().
[[nodiscard]] inline std::string row_fence_detail(std::string_view key) {
    return std::string(row_fence_words) + "with key " + std::string(key) + " no longer take writes here.";
}

}  // namespace pgporter
