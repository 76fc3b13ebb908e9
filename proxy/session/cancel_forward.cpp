#include "proxy/session/cancel_forward.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <optional>

#include "base/log.hpp"

namespace pgporter {
namespace {

// Behind the secret; 4 random bytes or 32 can't end like this by accident.
constexpr std::string_view hop_mark("\0pgporter hop\0", 14);

}  // namespace

std::optional<CancelRequest> with_hop_mark(CancelRequest request) {
    if (request.key.size() + hop_mark.size() > cancel_key_bytes_max) return std::nullopt;
    request.key += hop_mark;
    return request;
}

bool take_hop_mark(CancelRequest& request) {
    if (request.key.size() < cancel_key_bytes_min + hop_mark.size() || !request.key.ends_with(hop_mark)) return false;
    request.key.resize(request.key.size() - hop_mark.size());
    return true;
}

const PeerConfig* peer_of(const DataPathShared& shared, const CancelRequest& request) {
    const auto instance = shared.cancels.foreign_instance(request.pid);
    if (!instance) return nullptr;
    for (const PeerConfig& peer : shared.config.peers) {
        if (peer.id == *instance) return &peer;
    }
    return nullptr;
}

Task<> forward_cancel(IoThread& thread, DataPathShared& shared, PeerConfig peer, CancelRequest request) {
    const std::optional<CancelRequest> marked = with_hop_mark(std::move(request));
    boost::system::error_code not_numeric;
    const auto address = asio::ip::make_address(peer.address, not_numeric);
    if (!marked || not_numeric) co_return;
    if (shared.cancel_forwards_in_flight.load() >= shared.config.limits.cancel_forwards_max) {
        shared.session_metrics.cancel_forwards_dropped.inc();
        log::warning("cancel_forward_dropped", {{"reason", "limits.cancel_forwards_max is reached"}, {"peer", std::to_string(peer.id)}});
        co_return;
    }
    ++shared.cancel_forwards_in_flight;
    Socket socket(thread.executor());
    std::optional<Stream> stream;
    Deadline deadline(thread.wheel());
    // The whole way: a peer that doesn't even take the connection costs no more.
    deadline.arm(shared.config.limits.cancel_ms_max, [&socket, &stream] {
        boost::system::error_code ignored;
        if (stream) {
            stream->close();
        } else {
            socket.close(ignored);
        }
    });
    const asio::ip::tcp::endpoint endpoint(address, peer.port);
    const auto [error] = co_await socket.async_connect(endpoint, as_result);
    bool open = !error && socket.is_open();
    if (open) {
        stream.emplace(std::move(socket));
        open = co_await stream->write_all(build_cancel_request(marked->pid, marked->key));
    }
    if (open) {
        shared.session_metrics.cancel_forwards.inc();
    } else {
        shared.session_metrics.cancel_forwards_failed.inc();
        log::warning("cancel_forward_failed", {{"peer", std::to_string(peer.id)}, {"reason", error ? error.message() : "the connection was lost"}});
    }
    while (open) {
        char ignored[64];
        const IoResult result = stream->read_some(ignored, sizeof ignored);
        if (result.status == IoStatus::ok) continue;
        open = co_await stream->ready_for(result.status);
    }
    --shared.cancel_forwards_in_flight;
}

}  // namespace pgporter
