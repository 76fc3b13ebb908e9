// Copies rows again that came to the tenant from another one: the stream told their keys, but not all of their values. At a
// point where source and target are at the same place of the log, what the source's session sees is the truth: the target's
// rows with these keys are replaced by it, in the open target transaction. On the move's thread.
#pragma once

#include "admin/mover/follow.hpp"
#include "admin/mover/server_session.hpp"

namespace pgporter {

// Those of follower.missing(); they stay there until the caller has committed them.
[[nodiscard]] Result<void> copy_rows_again(ServerSession& source, Follower& follower);

}  // namespace pgporter
