// A cancel request whose key another instance made, on its way there. One hop at most: what we pass on carries a mark, and what carries it
// is never passed on, whatever the configuration of the peers says.
#pragma once

#include <optional>
#include <string>

#include "proxy/net/io_thread.hpp"
#include "proxy/net/types.hpp"
#include "proxy/session/worker.hpp"
#include "proxy/wire/startup.hpp"

namespace pgporter {

// The request with the mark; nullopt when its key is too long to carry one (then it isn't one of ours).
[[nodiscard]] std::optional<CancelRequest> with_hop_mark(CancelRequest request);
// Takes the mark off; true: there was one.
[[nodiscard]] bool take_hop_mark(CancelRequest& request);

// The peer that made the key; null: this instance did, or nobody we know.
[[nodiscard]] const PeerConfig* peer_of(const DataPathShared& shared, const CancelRequest& request);

// Sends the request and waits until the peer has closed the connection, which is when the cancel has been handled. Bounded by
// limits.cancel_ms_max and limits.cancel_forwards_max; nothing is told to anybody but the metrics.
[[nodiscard]] Task<> forward_cancel(IoThread& thread, DataPathShared& shared, PeerConfig peer, CancelRequest request);

}  // namespace pgporter
