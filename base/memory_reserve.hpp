// MemoryReserve: a piece of memory that is given up when an allocation fails, so that small things (an error for a client, a log line, the end of a
// session) still succeed while big ones are refused. One for the process; any thread.
#pragma once

#include <cstddef>

namespace pgporter::memory_reserve {

// Once, at the start. Without it is_short() is never true.
void install(std::size_t bytes);
// The reserve has been given up and not been won back yet: nothing that can be refused should be begun.
[[nodiscard]] bool is_short();
// Tries to win it back; to be called now and then. True: it is there.
bool refill();

}  // namespace pgporter::memory_reserve
