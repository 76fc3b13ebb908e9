// What the operating system lets this process have: file descriptors, memory. Functions without state; any thread.
#pragma once

#include <cstdint>

namespace pgporter {

// The soft limit becomes the hard one, which an administrator has set; a soft one is mostly a shell's habit. Once, at the start.
void raise_descriptors_max();
// How many descriptors the process may have now; it can be changed from outside at any time.
[[nodiscard]] std::uint64_t descriptors_max();
// The least of what the machine has, the control group allows (version 2) and the address space is limited to.
[[nodiscard]] std::uint64_t memory_bytes_max();

}  // namespace pgporter
