// The prologue as it goes ahead of a client's first bytes, in the same write (decision 0019): messages of the extended protocol without a Sync, so
// that PostgreSQL skips the client's bytes if any of it fails; in a transaction of its own, so that nothing the client does undoes it. It ends with
// its only CloseComplete. Pure; any thread.
#pragma once

#include <string>

#include "proxy/pool/server_connection.hpp"
#include "proxy/session/session_context.hpp"

namespace pgporter {

// Appends it to `out`. Every setting of the context is set, also where a reset would lead to the same value.
void append_prologue_ahead(const SettingMessages& context, ServerConnection::Wipe wipe, std::string& out);

}  // namespace pgporter
