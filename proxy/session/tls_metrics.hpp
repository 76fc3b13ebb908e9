// The metrics of TLS with clients. Instruments live in the registry; touched from every I/O thread.
#pragma once

#include <array>

#include "base/metrics.hpp"
#include "proxy/net/stream.hpp"

namespace pgporter {

struct TlsMetrics {
    explicit TlsMetrics(metrics::Registry& registry);

    metrics::Counter& failed(TlsFailure failure) const { return *failures_[static_cast<std::size_t>(failure)]; }
    metrics::Counter& handshakes;
    metrics::Counter& reloads;
    metrics::Counter& failed_reloads;
    metrics::Gauge& expires_at;  // the first certificate of all listeners to expire

  private:
    static constexpr std::size_t failure_count = static_cast<std::size_t>(TlsFailure::other) + 1;
    std::array<metrics::Counter*, failure_count> failures_{};
};

}  // namespace pgporter
